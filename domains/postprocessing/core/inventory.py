"""Which postprocessors there are and whether they can be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec

from domains.chain.core.preparing import (
    NO_FACE_RESTORER,
    NO_OPENCV,
    NO_UPSCALER,
    NON_LOCAL_MEANS,
    has_opencv,
)
from domains.chain.ports import Models
from domains.limits import LIMITS, Limit
from domains.model.types import Model, ModelType
from domains.postprocessing.ports import Postprocessors
from domains.postprocessing.types import (
    Postprocessor,
    PostprocessorBenchmark,
    PostprocessorKind,
)

_MOST = 128
_BUILT_IN: Mapping[PostprocessorKind, str] = {
    PostprocessorKind.SHARPEN: "Makes edges crisper by an unsharp mask.",
    PostprocessorKind.DENOISE: "Smooths noise and keeps edges, by a bilateral filter.",
    PostprocessorKind.COLOR: "Changes light, white balance, contrast, saturation and gamma.",
    PostprocessorKind.RESIZE: "Computes a picture at another size.",
    PostprocessorKind.CROP: "Cuts out a part of a picture.",
    PostprocessorKind.WATERMARK: "Puts a text or a picture on top.",
    PostprocessorKind.ROTATE: "Turns a picture by any angle, and mirrors it.",
    PostprocessorKind.PAD: "Puts a colour or more of its edges around a picture.",
    PostprocessorKind.LUT: "Maps colours by a table, a .cube file.",
    PostprocessorKind.DEBLUR: "Undoes a Gaussian blur, by Richardson and Lucy's iteration.",
    PostprocessorKind.REMOVE_BACKGROUND: (
        "Makes transparent what is no person; nothing but people is known to it."
    ),
}
_STEPS: Mapping[PostprocessorKind, str] = {
    PostprocessorKind.UPSCALE: "UpscaleStep",
    PostprocessorKind.FACE_RESTORE: "FaceRestoreStep",
    PostprocessorKind.SHARPEN: "SharpenStep",
    PostprocessorKind.DENOISE: "DenoiseStep",
    PostprocessorKind.COLOR: "ColorStep",
    PostprocessorKind.RESIZE: "ResizeStep",
    PostprocessorKind.CROP: "CropStep",
    PostprocessorKind.WATERMARK: "WatermarkStep",
    PostprocessorKind.ROTATE: "RotateStep",
    PostprocessorKind.PAD: "PadStep",
    PostprocessorKind.LUT: "LutStep",
    PostprocessorKind.DEBLUR: "DeblurStep",
    PostprocessorKind.REMOVE_BACKGROUND: "RemoveBackgroundStep",
}
_RESTORES = "Redraws the faces that it finds."
_UPSCALES = "Enlarges a picture with a network, in tiles."
# What runs upscalers and face restorers of kinds that are not built in.
_OTHER_KINDS = "spandrel"
_NEEDS_EXTRA = f"Its kind needs the package {_OTHER_KINDS}: install the extra [upscale]."
_NOT_YET = "This version does not have it yet."
_ELSEWHERE = "Control pictures with a model are not made yet; others PreviewControlImage makes."


class PostprocessorInventory:
    """Knows every kind of the contract, and what of each can be used now.

    Args:
        models: Finds upscalers and face restorers.
        measured: Knows what was measured of each.
        others: What others bring, by kind; asked at every call.
    """

    def __init__(
        self,
        models: Models,
        measured: Callable[[str], tuple[PostprocessorBenchmark, ...]],
        others: Mapping[PostprocessorKind, Postprocessors] | None = None,
    ) -> None:
        self._models = models
        self._measured = measured
        self._others = others or {}

    async def list(
        self, kind: PostprocessorKind | None = None, *, ready_only: bool = False
    ) -> tuple[Postprocessor, ...]:
        """In the contract's order; `kind` None means all. A kind of which there is nothing has
        one entry, which says what is missing."""
        found: list[Postprocessor] = []
        for each in PostprocessorKind:
            if kind in (None, each):
                found += await self._of(each)
        wanted = [entry for entry in found if entry.ready or not ready_only][:_MOST]
        return tuple(
            replace(entry, benchmarks=self._measured(entry.postprocessor_id))
            for entry in wanted
        )

    async def _of(self, kind: PostprocessorKind) -> Sequence[Postprocessor]:
        if kind in self._others:
            return await self._others[kind]()
        if kind in _BUILT_IN:
            built_in = Postprocessor(
                kind.value, kind, _BUILT_IN[kind], ready=True, limits=limits_of(kind)
            )
            if kind is PostprocessorKind.DENOISE:
                return built_in, _non_local_means()
            return (built_in,)
        match kind:
            case PostprocessorKind.UPSCALE:
                return await self._upscalers()
            case PostprocessorKind.FACE_RESTORE:
                return await self._restorers()
            case PostprocessorKind.CONTROL:
                about = "Makes a control picture, such as a pose or a depth map."
                return (_missing(kind, about, _ELSEWHERE),)
        return (_missing(kind, "Scores a picture and applies a policy.", _NOT_YET),)

    async def _upscalers(self) -> Sequence[Postprocessor]:
        models = await self._models.of_type(ModelType.UPSCALER)
        if not models:
            return (_missing(PostprocessorKind.UPSCALE, _UPSCALES, NO_UPSCALER),)
        return [_upscaler(model) for model in sorted(models, key=lambda one: one.model_id)]

    async def _restorers(self) -> Sequence[Postprocessor]:
        models = await self._models.of_type(ModelType.FACE_RESTORER)
        if not models:
            kind = PostprocessorKind.FACE_RESTORE
            return (_missing(kind, _RESTORES, NO_FACE_RESTORER),)
        return [_restorer(model) for model in sorted(models, key=lambda one: one.model_id)]


def limits_of(kind: PostprocessorKind) -> tuple[Limit, ...]:
    """Those of the fields of its step."""
    return tuple(limit for name, limit in LIMITS.items() if name.startswith(f"{_STEPS[kind]}."))


def _non_local_means() -> Postprocessor:
    ready = has_opencv()
    return Postprocessor(
        NON_LOCAL_MEANS,
        PostprocessorKind.DENOISE,
        "Smooths noise and keeps edges and texture, by non-local means.",
        ready,
        "" if ready else NO_OPENCV,
        limits=limits_of(PostprocessorKind.DENOISE),
    )


def _upscaler(model: Model) -> Postprocessor:
    ready = model.enlargement is not None or find_spec(_OTHER_KINDS) is not None
    return Postprocessor(
        model.model_id,
        PostprocessorKind.UPSCALE,
        _UPSCALES,
        ready,
        "" if ready else _NEEDS_EXTRA,
        model_id=model.model_id,
        factors=() if model.enlargement is None else (model.enlargement.factor,),
        limits=limits_of(PostprocessorKind.UPSCALE),
        architecture=model.kind,
    )


def _restorer(model: Model) -> Postprocessor:
    ready = bool(model.parameter_count) or find_spec(_OTHER_KINDS) is not None
    return Postprocessor(
        model.model_id,
        PostprocessorKind.FACE_RESTORE,
        _RESTORES,
        ready,
        "" if ready else _NEEDS_EXTRA,
        model_id=model.model_id,
        limits=limits_of(PostprocessorKind.FACE_RESTORE),
        architecture=model.kind,
    )


def _missing(kind: PostprocessorKind, description: str, why: str) -> Postprocessor:
    limits = limits_of(kind) if kind in _STEPS else ()
    return Postprocessor(kind.value, kind, description, False, why, limits=limits)
