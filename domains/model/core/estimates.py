"""What a model needs on a device: from its header before it ran there, measured afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from domains.device.types import Device
from domains.memory.types import Extent, HeldComponent, Place
from domains.model.core.room import making_way, picture_bytes
from domains.model.ports import Machine
from domains.model.types import Model, ModelEstimate
from domains.session.core.speeds import Effort, Speeds
from domains.session.types import Phase
from domains.values import (
    NETWORK_PARTS,
    ByteFigure,
    FigureQuality,
    PartDataType,
    TensorDataType,
)

_BYTES = {TensorDataType.FLOAT32: 4, TensorDataType.FLOAT16: 2, TensorDataType.BFLOAT16: 2}
_FULL, _HALF = 4, 2
# Of the VAEs of every family that is drawn with here.
_VAE_CHANNELS = 256
_UNKNOWN = "the model's header does not tell how many numbers it has"
_COUNTED = "parameters x bytes of the data type"
_DRAWN = "weights + 3 x VAE channels x pixels"
_EXACT = "exact"


@dataclass(frozen=True)
class Fit:
    """What a model needs on a device, and the models that would leave for it."""

    estimate: ModelEstimate
    evicted_model_ids: tuple[str, ...]


class Estimates:
    """Estimates what models need.

    Args:
        speeds: How long work took.
    """

    def __init__(self, speeds: Speeds) -> None:
        self._speeds = speeds

    async def of(
        self,
        model: Model,
        device: Device,
        machine: Machine,
        data_types: tuple[PartDataType, ...] = (),
    ) -> Fit:
        """What it needs there, as things are now."""
        extent = await machine.memory.extent(Place(device.device_id))
        return self.at(model, device, machine, extent, data_types)

    def at(
        self,
        model: Model,
        device: Device,
        machine: Machine,
        extent: Extent,
        data_types: tuple[PartDataType, ...] = (),
    ) -> Fit:
        """What it needs there, where so much memory is free."""
        weights = held_weights(model, device, machine.models.held()) or weights_by_header(
            model, device, data_types
        )
        going, peak, fits = self._room(model, device, machine, weights, extent)
        pixels = model.native_width * model.native_height
        # One denoising step looks at the picture twice, with the prompt and without.
        step = Effort(model.model_id, _EXACT, pixels, {Phase.DENOISING: 2.0 * pixels})
        estimate = ModelEstimate(
            device.device_id,
            weights,
            peak,
            fits,
            self._speeds.work_seconds(device.device_id, step) if pixels else None,
            self._speeds.load_seconds(device.device_id, model.model_id),
        )
        return Fit(estimate, going)

    def _room(
        self,
        model: Model,
        device: Device,
        machine: Machine,
        weights: ByteFigure,
        extent: Extent,
    ) -> tuple[tuple[str, ...], ByteFigure, bool]:
        if weights.value is None:
            return (), ByteFigure.unknown(weights.source), True
        number = _FULL if device.traits.full_numbers else _HALF
        picture = picture_bytes(_VAE_CHANNELS, model.native_width, model.native_height, number)
        peak = ByteFigure(weights.value + picture, FigureQuality.ESTIMATED, _DRAWN)
        if weights.quality is FigureQuality.MEASURED or extent.free is None:
            return (), peak, True  # it lies there, or only loading it will show
        # A worker makes room with what it holds itself.
        idle = [
            (one.model_id, one.size_bytes)
            for one in machine.models.idle(device.device_id)
            if one.device_id == device.device_id
        ]
        going, fits = making_way(weights.value + picture, extent.free, idle)
        return going, peak, fits


def held_weights(
    model: Model, device: Device, held: tuple[HeldComponent, ...]
) -> ByteFigure | None:
    """What it takes there now; None where it does not lie there."""
    parts = [
        one.component.size
        for one in held
        if one.device_id == device.device_id and one.component.model_id == model.model_id
    ]
    if not parts or any(part.value is None for part in parts):
        return None
    return ByteFigure.measured(sum(part.value or 0 for part in parts), parts[0].source)


def weights_by_header(
    model: Model, device: Device, data_types: tuple[PartDataType, ...]
) -> ByteFigure:
    """What its weights would take, by its header."""
    chosen = {each.part: _BYTES.get(each.data_type, _FULL) for each in data_types}
    usual = _FULL if device.traits.full_numbers else _HALF
    total = sum(
        part.parameter_count
        * chosen.get(NETWORK_PARTS[part.name], _FULL if part.full_precision else usual)
        for part in model.components
        if part.name in NETWORK_PARTS
    )
    total = total or model.parameter_count * usual
    if not total:
        return ByteFigure.unknown(_UNKNOWN)
    return ByteFigure(total, FigureQuality.ESTIMATED, _COUNTED)
