"""What becomes of a checkpoint in the other layout: files of weights, and texts beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.checkpoint_kinds.kind import TEXT_MODEL, CheckpointKind
from domains.model.backends.companion import companion_of
from domains.model.backends.configurations import configuration_texts, held_texts, kind_of
from domains.model.backends.folder_model import card_of
from domains.model.backends.held_files import HELD_FILES, MAX_CHARACTERS
from domains.model.backends.inspector.refusals import too_large
from domains.model.backends.inspector.safetensors_writer import Copied, Source, code_of
from domains.model.backends.inspector.stored import StoredTensor, gaps
from domains.model.backends.layouts.originals import original_tensors
from domains.model.backends.model_card import fit_to_show
from domains.model.backends.model_plan import ModelPlan, NetworkPlan, Origin
from domains.model.backends.safetensors_header import ELEMENT_BITS
from domains.model.backends.sizes import native_size
from domains.model.backends.spoken_metadata import prediction_said
from domains.model.types import PredictionType
from domains.values import TensorDataType

_CARD = "README.md"
ZERO_SNR = "ztsnr"
"""An empty tensor of this name says that the last step is all noise."""


@dataclass(frozen=True)
class Rearranged:
    """A model in the other layout.

    Attributes:
        weights: By the names of its files.
        metadata: Of each of these files.
        texts: The other files.
    """

    weights: Mapping[str, list[Copied]]
    metadata: Mapping[str, str]
    texts: Mapping[str, str]


def as_folder(plan: ModelPlan, wanted: TensorDataType | None) -> Rearranged:
    """A model of one file as a folder.

    Args:
        plan: The file's.
        wanted: Type of the result's numbers; each tensor's own if None.

    Raises:
        FailedPrecondition: MODEL_DTYPE_UNSUPPORTED as `_copied`, and what
            `configuration_texts` raises.
    """
    metadata = plan.networks[0].files[0].header.metadata
    weights = {}
    for network in plan.networks:
        name = f"{network.name}/{network.network_class.weights_name}.safetensors"
        weights[name] = [
            copied(_folders_name(network, own), origin.shape, (origin,), wanted)
            for own, origin in network.tensors.items()
        ]
    given = companion_of(plan.files, metadata)
    texts = configuration_texts(plan, given, retyped=wanted is not None)
    card = _card(metadata)
    return Rearranged(weights, {"format": "pt"}, {**texts, **({_CARD: card} if card else {})})


def as_file(plan: ModelPlan, name: str, wanted: TensorDataType | None) -> Rearranged:
    """A folder as a model of one file, in the layout of the original code.

    Args:
        plan: The folder's.
        name: The file's.
        wanted: As for `as_folder`.

    Raises: As `as_folder`; MODEL_INCOMPLETE as `original_tensors`; MODEL_HEADER_TOO_LARGE where
        its header would hold more than is read.
    """
    kind = kind_of(plan)
    tensors = [
        copied(each.name, each.shape, each.origins, wanted, transposed=each.transposed)
        for network in plan.networks
        for each in original_tensors(kind.parts[network.name], network)
    ]
    marks = [Copied(mark, (0,), "F32", ()) for mark in _marks(plan, kind)]
    held = json.dumps(
        held_texts(plan, plan.files, retyped=wanted is not None), ensure_ascii=False
    )
    if len(held) > MAX_CHARACTERS:
        raise too_large("would hold tokenizers in its header")
    metadata = {**_metadata(plan, kind), HELD_FILES: held}
    return Rearranged({name: [*tensors, *marks]}, metadata, {})


def _folders_name(network: NetworkPlan, name: str) -> str:
    """As the hub's folders have it."""
    inside = network.network_class.library == "transformers"
    return f"{TEXT_MODEL}{name}" if inside and not name.startswith("text_projection") else name


def copied(
    name: str,
    shape: tuple[int, ...],
    origins: tuple[Origin, ...],
    wanted: TensorDataType | None,
    *,
    transposed: bool = False,
) -> Copied:
    """A tensor of the result.

    Raises:
        FailedPrecondition: MODEL_DTYPE_UNSUPPORTED: its numbers are of several types, or are
            to be multiplied by a scale, and no type was asked for.
    """
    types = {code_of(origin.stored.data_type, wanted) for origin in origins}
    if len(types) > 1 or (wanted is None and any(origin.scale for origin in origins)):
        raise FailedPrecondition(
            "Numbers that lie together in the result are of several types, or are stored "
            "divided by a scale; name a data type for the result.",
            reason=Reason.MODEL_DTYPE_UNSUPPORTED,
            metadata={"tensor": fit_to_show(origins[0].stored.name, 200)},
        )
    sources = tuple(_source(origin, transposed=transposed) for origin in origins)
    return Copied(name, shape, types.pop(), sources)


def _source(origin: Origin, *, transposed: bool) -> Source:
    """Where the numbers of an origin lie in its file, in their order in the result."""
    stored, scale = origin.stored, origin.scale
    shape, offset, strides = stored.shape, stored.offset, _strides(stored.shape)
    if origin.rows is not None:
        first, behind = origin.rows
        offset += first * strides[0] * ELEMENT_BITS[stored.data_type] // 8
        shape = (behind - first, *shape[1:])
    if origin.transposed is not transposed:
        shape, strides = shape[::-1], strides[::-1]
    return Source(
        origin.file.name,
        StoredTensor(stored.name, stored.data_type, shape, offset, gaps(shape, strides)),
        None
        if scale is None
        else StoredTensor(scale.name, scale.data_type, scale.shape, scale.offset),
    )


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides: list[int] = []
    step = 1
    for edge in reversed(shape):
        strides.insert(0, step)
        step *= edge
    return tuple(strides)


def _marks(plan: ModelPlan, kind: CheckpointKind) -> Iterator[str]:
    """Empty tensors by which programs know what no header tells them (NoobAI-XL, ComfyUI)."""
    predicted = plan.scheduler_config.get("prediction_type")
    velocity = PredictionType.V_PREDICTION
    if predicted == velocity.value and kind.prediction is not velocity:
        yield "v_pred"
    if plan.scheduler_config.get("rescale_betas_zero_snr") is True:
        yield ZERO_SNR


def _metadata(plan: ModelPlan, kind: CheckpointKind) -> dict[str, str]:
    """By the model metadata standard."""
    configs = {network.name: network.config for network in plan.networks}
    width, height = native_size(configs["unet"], configs["vae"])
    predicted = plan.scheduler_config.get("prediction_type", kind.prediction.value)
    card = card_of(plan.files)
    said = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": kind.standard_name,
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.prediction_type": prediction_said(predicted),
        "modelspec.description": card.description,
        "modelspec.license": card.license,
        "modelspec.tags": ",".join(card.tags),
    }
    return {"format": "pt", **{key: text for key, text in said.items() if text}}


def _card(metadata: Mapping[str, str]) -> str:
    """A model card with what a header said; empty where it said nothing."""
    lines = [
        f"{key}: {fit_to_show(metadata[f'modelspec.{key}'], 512)}"
        for key in ("license", "description")
        if metadata.get(f"modelspec.{key}")
    ]
    tags = [fit_to_show(tag, 64) for tag in metadata.get("modelspec.tags", "").split(",")]
    if any(tags):
        lines += ["tags:", *(f"- {tag}" for tag in tags if tag)]
    return "\n".join(["---", *lines, "---", ""]) if lines else ""
