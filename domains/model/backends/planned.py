"""What a plan tells of a model that is one file, for the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from domains.errors import FailedPrecondition
from domains.model.backends import restorers
from domains.model.backends.component import loads_alone, plan_component
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.header_facts import data_type_of
from domains.model.backends.model_plan import ModelPlan, NetworkPlan
from domains.model.backends.plans import plan_model
from domains.model.backends.recognition import Recognised
from domains.model.backends.safetensors_header import read_header
from domains.model.backends.sizes import native_size
from domains.model.backends.upscalers import KINDS, design_of
from domains.model.types import (
    Component,
    Enlargement,
    Model,
    ModelType,
    PredictionType,
    Problem,
)

_PREDICTIONS = {prediction.value: prediction for prediction in PredictionType}


def planned(model: Model, found: Recognised, files: ConfinedFiles) -> Model:
    """A model in one file that is usable by what it is: with its plan's facts, or with the
    reason that there is no plan.

    Raises:
        PathOutsideRoot: It, or what it names, is a link that leads outside its root.
        OSError: The machine cannot read it at the moment.
    """
    if found.type is ModelType.UPSCALER and found.kind in KINDS:
        return _as_upscaler(model, found, files)
    if found.type is ModelType.FACE_RESTORER and found.kind in restorers.KINDS:
        return _as_restorer(model, files)
    alone = loads_alone(found)
    if not alone and found.type not in (ModelType.CHECKPOINT, ModelType.REFINER):
        return model
    try:
        if alone:
            return _as_component(model, plan_component(files))
        plan = plan_model(files)
    except FailedPrecondition as error:
        return replace(model, problem=Problem(error.reason, error.message, error.metadata))
    width, height = native_size(plan.configs["unet"], plan.configs["vae"])
    schedule = plan.scheduler_config
    return replace(
        model,
        native_width=width,
        native_height=height,
        prediction_type=_PREDICTIONS.get(schedule.get("prediction_type", "")),
        zero_terminal_snr=schedule.get("rescale_betas_zero_snr") is True,
        default_scheduler=schedule.get("_class_name", ""),
        scheduler_config=without_lists(schedule),
        parameter_count=sum(network.parameter_count for network in plan.networks),
        data_type=data_type_of(entry for network in plan.networks for entry in network.stored),
        components=components(plan),
        lacks_vae="vae" in plan.borrowed,
    )


def _as_upscaler(model: Model, found: Recognised, files: ConfinedFiles) -> Model:
    try:
        design = design_of(read_header(files), found.kind)
    except FailedPrecondition as error:
        return replace(model, problem=Problem(error.reason, error.message, error.metadata))
    return replace(model, enlargement=Enlargement(design.factor, design.numbers_per_pixel))


def _as_restorer(model: Model, files: ConfinedFiles) -> Model:
    header = read_header(files)
    try:
        used = set(restorers.design_of(header).names.values())
    except FailedPrecondition as error:
        return replace(model, problem=Problem(error.reason, error.message, error.metadata))
    stored = [entry for entry in header.tensors if entry.name in used]
    return replace(
        model,
        parameter_count=sum(entry.parameter_count for entry in stored),
        data_type=data_type_of(stored),
    )


def _as_component(model: Model, network: NetworkPlan) -> Model:
    return replace(
        model,
        parameter_count=network.parameter_count,
        data_type=data_type_of(network.stored),
        components=(_component(network),),
    )


def components(plan: ModelPlan) -> tuple[Component, ...]:
    """A plan's networks and tokenizers, in order of name."""
    parts = [_component(network) for network in plan.networks]
    parts += [Component(name, "CLIPTokenizer") for name in plan.tokenizers]
    scheduler = plan.scheduler_config.get("_class_name", "")
    return tuple(
        sorted([*parts, Component("scheduler", scheduler)], key=lambda part: part.name)
    )


def _component(network: NetworkPlan) -> Component:
    return Component(
        network.name,
        network.network_class.name,
        network.parameter_count,
        network.size_bytes,
        data_type_of(network.stored),
        *shape_of(network.config),
    )


def without_lists(schedule: Mapping[str, Any]) -> dict[str, str | float | None]:
    """A scheduler's configuration as a component of the catalogue has it."""
    return {key: value for key, value in schedule.items() if not isinstance(value, list)}


def shape_of(config: Mapping[str, Any]) -> tuple[tuple[int, ...], bool, bool, int]:
    """What a component tells of a network's shape: widths, attention, full precision, layers
    of a text encoder."""
    blocks = config.get("down_block_types") or ("",)
    return (
        tuple(config.get("block_out_channels") or ()),
        "Attn" in str(blocks[0]),
        config.get("force_upcast") is True,
        config.get("num_hidden_layers") or 0,
    )
