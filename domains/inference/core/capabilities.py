"""What can be asked for: schedulers, limits, and which parts of the contract work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from domains.inference.core.combinations import Feature, Mode, features_of, modes_of
from domains.inference.core.resolution import scheduler_of
from domains.inference.core.sampling_rules import schedulers_for
from domains.inference.core.schedules import most_steps
from domains.inference.core.second_pass import NO_UPSCALER
from domains.inference.ports import Devices, Models, Provenance
from domains.inference.types import GenerationSettings, PrecisionMode, Scheduler
from domains.limits import LIMITS, Limit
from domains.model.types import Model, ModelType
from domains.picture_files import writable_formats
from domains.values import ControlNetType, ImageFileFormat, types_of

# Parts of the contract by the field that asks for them, and why each does not work.
UNBUILT: dict[str, str] = {
    "control_nets.preprocessor.postprocessor_id": "Preprocessors with a model are not run yet.",
    "regions": "One prompt is for the whole picture.",
    "precision.data_types": "Choose EXACT or FASTEST instead of data types.",
    "precision.attention_slicing": "The device's profile decides.",
    "precision.vae_slicing": "Pictures are decoded one by one.",
    "precision.cpu_offload": "The whole model stays on the device.",
}

# Values of enums, likewise.
UNBUILT_VALUES: dict[str, str] = {
    "SCHEDULER_DPM_SOLVER_SDE": "It needs torchsde, which is not a part of this version; "
    "SCHEDULER_DPM_SOLVER_MULTISTEP has stochastic algorithms too.",
}

_MANIFEST = "output.provenance.manifest"
_VAE = "GenerationSettings.vae_model_id"
_UPSCALER = "second_pass.postprocessor_id"
_TYPE = "CONTROL_NET_TYPE_"

_LIMITED_MESSAGES = (
    "GenerationSettings",
    "ImageToImage",
    "InputImage",
    "Inpainting",
    "OutpaintingMargins",
    "SchedulerSettings",
    "SolverOptions",
    "ChurnOptions",
    "DdimOptions",
    "AncestralOptions",
    "LinearMultistepOptions",
    "GuidanceSettings",
    "SdxlSettings",
    "Refiner",
    "ConditioningSize",
    "ConditioningPoint",
    "LoraWeight",
    "SecondPass",
    "SeedVariation",
    "ControlNetGuidance",
    "ImagePrompt",
    "ControlPreprocessor",
    "CannyOptions",
    "SoftEdgeOptions",
    "LineArtOptions",
    "ScribbleOptions",
    "TileOptions",
    "FaceMaskOptions",
    "OutputSettings",
    "WorkOptions",
    "DeliveryOptions",
    "PreviewSettings",
)


@dataclass(frozen=True)
class Capabilities:
    """What a model can do on a device. Sizes are in pixels. `values` tells of values of enums
    why they are of no use, empty where they can be used; `most_steps` are those of each
    scheduler, in their order."""

    model_id: str
    device_id: str
    schedulers: tuple[Scheduler, ...]
    most_steps: tuple[int, ...]
    default_scheduler: Scheduler
    native_width: int
    native_height: int
    limits: tuple[Limit, ...]
    modes: tuple[Mode, ...]
    features: tuple[Feature, ...]
    values: Mapping[str, str]
    output_formats: tuple[ImageFileFormat, ...]
    precision_modes: tuple[PrecisionMode, ...]


def _limits(model: Model) -> tuple[Limit, ...]:
    """What fields accept in a request for the model."""
    limits = {
        field: limit
        for field, limit in LIMITS.items()
        if field.split(".")[0] in _LIMITED_MESSAGES
    }
    if model.lacks_vae:
        limits[_VAE] = replace(limits.get(_VAE, Limit(_VAE)), required=True)
    return tuple(limits.values())


class CapabilityInquiry:
    """Answers what can be asked for."""

    def __init__(self, devices: Devices, models: Models, provenance: Provenance) -> None:
        self._devices = devices
        self._models = models
        self._provenance = provenance

    async def describe(self, model_id: str, device_id: str) -> Capabilities:
        """What a model ("" for the default) can do on a device ("" for the default). A refiner
        has no mode: it goes on from what another model drew.

        Raises:
            NotFound: MODEL_NOT_FOUND or DEVICE_NOT_FOUND.
        """
        device = await self._devices.resolve(device_id)
        model = await self._models.resolve(
            model_id, or_type=ModelType.REFINER, masks=True, vae=True
        )
        return Capabilities(
            model_id=model.model_id,
            device_id=device.device_id,
            schedulers=schedulers_for(model),
            most_steps=tuple(most_steps(each, model) for each in schedulers_for(model)),
            default_scheduler=scheduler_of(GenerationSettings(), model),
            native_width=model.native_width,
            native_height=model.native_height,
            limits=_limits(model),
            modes=modes_of(model, UNBUILT),
            features=features_of(model, UNBUILT | await self._missing()),
            values=UNBUILT_VALUES | await self._control_types(model),
            output_formats=writable_formats(),
            precision_modes=(PrecisionMode.EXACT, PrecisionMode.FASTEST),
        )

    async def _missing(self) -> dict[str, str]:
        """Fields for which something is not installed, and what."""
        why = self._provenance.no_manifests
        upscalers = await self._models.of_type(ModelType.UPSCALER)
        return ({_MANIFEST: why} if why else {}) | (
            {} if upscalers else {_UPSCALER: NO_UPSCALER}
        )

    async def _control_types(self, model: Model) -> dict[str, str]:
        """What a control picture can be taken for, by the unions that go with the model."""
        nets = await self._models.companions_of(model, ModelType.CONTROL_NET)
        there = {each for net in nets for each in types_of(net.kind)}
        why = (
            f"None of the models is a union of ControlNets for {model.model_id} that knows it."
        )
        return {f"{_TYPE}{each.name}": "" if each in there else why for each in ControlNetType}
