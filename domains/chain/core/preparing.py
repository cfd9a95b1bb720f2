"""Chains made ready: everything that their steps name is found, or said to be missing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from msgspec.structs import replace

from domains.chain.core.cube import MOST_BYTES, CubeBroken, parse_cube
from domains.chain.core.sizes import check_format, sizes_of
from domains.chain.errors import InvalidChain, PostprocessorMissing
from domains.chain.ports import Files, Marks, Models, Policies
from domains.chain.types import (
    AskedChain,
    CubeFile,
    DenoiseMethod,
    DenoiseStep,
    FaceRestoreStep,
    LutStep,
    RemoveBackgroundStep,
    RestorerModel,
    SafetyStep,
    Size,
    Step,
    Table,
    UpscalerModel,
    UpscaleStep,
    WatermarkStep,
)
from domains.errors import FeatureNotBuilt, FieldViolation, Reason
from domains.model.types import Model, ModelType
from domains.picture.core import KeptFile, KeptPicture
from domains.picture.types import OWN_SIZE, ResizeFit
from domains.picture_files import writable_formats
from domains.safety import SafetyPolicy, SafetySubject
from domains.values import NO_MARKS, ImageFileFormat, PictureMarks

NO_UPSCALER = (
    "No upscaler is installed: put one into a model root (a .safetensors of the kinds Compact "
    "or RRDB, such as Real-ESRGAN's), or resize instead."
)
NO_FACE_RESTORER = (
    "No face restorer is installed: put one into a model root (GFPGAN 1.4 as .safetensors; "
    "ConvertModel makes one of its .pth), or leave the step out."
)
REMOVER = "remove-background"
"""The id of what tells people from the rest."""

NON_LOCAL_MEANS = "denoise-non-local-means"
"""The id of the postprocessor that denoises by non-local means."""
NO_OPENCV = (
    "Non-local means need OpenCV: pip install 'device-operations[opencv]', or denoise with the "
    "method BILATERAL."
)


def has_opencv() -> bool:
    """Whether OpenCV is installed; it is not imported."""
    return find_spec("cv2") is not None


@dataclass(frozen=True)
class PreparedChain:
    """Steps with nothing left open; held for as long as work may need the files of `marks`
    and of `tables`. `of_inputs` is the policy that judges what they are done on; None lets that
    pass. `demanded` are the marks that policies want results to bear."""

    steps: tuple[Step, ...] = ()
    models: tuple[Model, ...] = ()
    marks: tuple[KeptPicture, ...] = ()
    tables: tuple[KeptFile, ...] = ()
    of_inputs: SafetyPolicy | None = None
    demanded: PictureMarks = NO_MARKS

    def ends_with(self, policy: SafetyPolicy) -> bool:
        """Whether the last step applies that policy."""
        last = self.steps[-1] if self.steps else None
        return isinstance(last, SafetyStep) and last.policy == policy

    def under(self, default: SafetyPolicy | None) -> PreparedChain:
        """The chain where a policy holds for everything: where that judges results it is the
        last step, whatever others there are."""
        if default is None:
            return self
        steps, of_inputs = self.steps, None
        if default.judges(SafetySubject.RESULT) and not self.ends_with(default):
            steps = (*steps, SafetyStep(default.policy_id, default))
        if default.judges(SafetySubject.INPUT_IMAGE):
            of_inputs = default
        demanded = self.demanded | default.marks
        return dataclasses.replace(self, steps=steps, of_inputs=of_inputs, demanded=demanded)

    @property
    def model_id(self) -> str:
        """The first model; empty without any."""
        return self.models[0].model_id if self.models else ""

    @property
    def companion_ids(self) -> tuple[str, ...]:
        """The models beside the first."""
        return tuple(model.model_id for model in self.models[1:])

    @property
    def policies(self) -> tuple[str, ...]:
        """Keys of the safety policies that it goes by."""
        found = [step.policy for step in self.steps if isinstance(step, SafetyStep)]
        found.append(self.of_inputs)
        return tuple(dict.fromkeys(each.key for each in found if each is not None))

    def result_size(self, size: Size, path: str, format: ImageFileFormat, field: str) -> Size:
        """Width and height of what comes of a picture.

        Args:
            size: Of the picture.
            path: Where the steps stand in the request.
            format: Of the result's file.
            field: Where the format stands.

        Raises:
            FeatureNotBuilt: Files of that format cannot be written here.
            InvalidChain: DIMENSIONS_INVALID, a step that does not go with the picture's size
                then; FIELDS_CONFLICT, a result that no file of that format holds.
        """
        if format not in writable_formats():
            raise FeatureNotBuilt((field,))
        found = sizes_of(self.steps, size, path)
        if found.violation is not None:
            raise InvalidChain.of(found.violation)
        result = found.sizes[-1] if found.sizes else size
        InvalidChain.check(*check_format(result, format, field))
        return result

    def pixels(self, size: Size) -> int:
        """How much work it is: the pixels after each step, many times over where a network made
        them."""
        sizes = sizes_of(self.steps, size, "").sizes
        return sum(
            width * height * (_EFFORT if isinstance(step, UpscaleStep | FaceRestoreStep) else 1)
            for step, (width, height) in zip(self.steps, sizes, strict=False)
        )


_EFFORT = 50


class ChainPreparer:
    """Makes chains ready.

    Args:
        models: Finds upscalers and face restorers.
        marks: Prepares the pictures of marks.
        files: Reads and keeps the tables of colours.
        policies: Finds the safety policies that steps name.
    """

    def __init__(self, models: Models, marks: Marks, files: Files, policies: Policies) -> None:
        self._models = models
        self._marks = marks
        self._files = files
        self._policies = policies

    async def prepare(self, chain: AskedChain, path: str) -> PreparedChain:
        """A chain that breaks no rule, with what it names.

        Args:
            chain: What is asked for.
            path: Where its steps stand in the request.

        Raises:
            PostprocessorMissing: What a step needs is not installed.
            NotFound: There is no such safety policy, or what it needs is not installed.
            InvalidChain: TEXT_INVALID, a table of colours that is none.
            DomainError: A model cannot be used, or a picture.
        """
        steps: list[Step] = []
        models: dict[str, Model] = {}
        marks: list[KeptPicture] = []
        tables: list[KeptFile] = []
        for at, step in enumerate(chain.steps):
            field = f"{path}[{at}].{step.field}"
            match step:
                case UpscaleStep():
                    model = await self._upscaler(step, f"{field}.postprocessor_id")
                    models[model.model_id] = model
                    steps.append(replace(step, model=_described(model)))
                case WatermarkStep() if at in chain.marks:
                    kept = await self._marks.prepare(
                        chain.marks[at],
                        f"{field}.image",
                        OWN_SIZE,
                        ResizeFit.STRETCH,
                        keep_alpha=True,
                    )
                    marks.append(kept)
                    steps.append(replace(step, picture=kept.prepared))
                case LutStep():
                    kept_file, table = await self._table(chain.cubes[at], field)
                    tables.append(kept_file)
                    steps.append(replace(step, table=table))
                case DenoiseStep(method=DenoiseMethod.NON_LOCAL_MEANS) if not has_opencv():
                    raise PostprocessorMissing(f"{field}.method", NO_OPENCV, NON_LOCAL_MEANS)
                case FaceRestoreStep():
                    model = await self._restorer(step, f"{field}.postprocessor_id")
                    models[model.model_id] = model
                    restorer = RestorerModel(model.model_id, model.place)
                    steps.append(replace(step, model=restorer))
                case RemoveBackgroundStep() if step.postprocessor_id not in ("", REMOVER):
                    raise PostprocessorMissing(
                        f"{field}.postprocessor_id",
                        f"there is none of that id; {REMOVER} is the only one.",
                        step.postprocessor_id,
                    )
                case SafetyStep():
                    policy = self._policies.named(step.policy_id, f"{field}.policy_id")
                    steps.append(replace(step, policy=policy))
                case _:
                    steps.append(step)
        demanded = NO_MARKS
        for step in steps:
            if isinstance(step, SafetyStep) and step.policy is not None:
                demanded |= step.policy.marks
        return PreparedChain(
            tuple(steps),
            tuple(models.values()),
            tuple(marks),
            tuple(tables),
            demanded=demanded,
        )

    async def _table(self, file: CubeFile, field: str) -> tuple[KeptFile, Table]:
        """A table read, and where it is kept for the worker."""
        data: bytes | None
        if file.inline is not None:
            where, data = f"{field}.cube", file.inline
        else:
            where = f"{field}.artifact_id"
            data = await self._files.read(file.artifact_id, where, MOST_BYTES)
        try:
            if data is None:
                raise CubeBroken(f"a table has at most {MOST_BYTES} bytes")
            cube = await asyncio.to_thread(parse_cube, data)
        except CubeBroken as error:
            rule = f"Must be a .cube file: {error}."
            violation = FieldViolation(where, Reason.TEXT_INVALID, rule)
            raise InvalidChain.of(violation) from error
        kept = await self._files.keep(cube.colours)
        described = Table(kept.path, cube.entries, cube.three_dimensions, cube.low, cube.high)
        return kept, described

    async def _upscaler(self, step: UpscaleStep, field: str) -> Model:
        if step.postprocessor_id:
            return await self._models.resolve(
                step.postprocessor_id, type=ModelType.UPSCALER, field=field
            )
        best = best_upscaler(await self._models.of_type(ModelType.UPSCALER), step.factor)
        if best is None:
            raise PostprocessorMissing(field, NO_UPSCALER)
        return best

    async def _restorer(self, step: FaceRestoreStep, field: str) -> Model:
        if step.postprocessor_id:
            return await self._models.resolve(
                step.postprocessor_id, type=ModelType.FACE_RESTORER, field=field
            )
        best = best_restorer(await self._models.of_type(ModelType.FACE_RESTORER))
        if best is None:
            raise PostprocessorMissing(field, NO_FACE_RESTORER)
        return best


def best_restorer(models: Sequence[Model]) -> Model | None:
    """One that needs nothing that is not here, which is one with a plan; of several the
    largest, and then by name."""

    def key(model: Model) -> tuple[bool, int, str]:
        return not model.parameter_count, -model.size_bytes, model.model_id

    return min(models, key=key, default=None)


def best_upscaler(models: Sequence[Model], factor: float) -> Model | None:
    """The upscaler for a factor: of those that reach it in one pass the one that goes the least
    beyond, or else the one that comes nearest; of several the largest, which are the better
    ones, and then by name. One whose own factor is not known comes last."""

    def key(model: Model) -> tuple[bool, bool, float, int, str]:
        own = 0 if model.enlargement is None else model.enlargement.factor
        return own == 0, own < factor, abs(own - factor), -model.size_bytes, model.model_id

    return min(models, key=key, default=None)


def _described(model: Model) -> UpscalerModel:
    factor = 0 if model.enlargement is None else model.enlargement.factor
    return UpscalerModel(model.model_id, model.place, factor, model.size_bytes)
