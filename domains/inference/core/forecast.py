"""How long a generation will take and how much memory, before it is begun."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from domains.codec import ByteCount, Name, Sha256, Value, encode
from domains.device.types import Device
from domains.errors import Reason, ResourceExhausted
from domains.inference.core.memory_needs import FULL, HALF, phase_bytes
from domains.inference.ports import Devices
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    PrecisionMode,
)
from domains.memory.types import Place
from domains.model.core.estimates import held_weights, weights_by_header
from domains.model.core.room import SPARE_BYTES
from domains.model.ports import Machine
from domains.model.types import Model, ModelType, loads
from domains.session.core.session import Session
from domains.session.core.speeds import Effort, Speeds
from domains.session.types import Phase, SessionState
from domains.values import ByteFigure, Degradation, DegradationKind, FigureQuality

_MOST_PEAKS = 4_096
MOST_TOLD = 1_024
"""Of the peaks that are told to outlive the server, the newest."""
_SHAPES = "weights by the header, and the networks' tensors by their shapes"
_MEASURED = "the least peak of earlier generations of this model and size on this device"
_WITH_IDLE = "free, and what lies there of this model and of models that no work uses"


@dataclass(frozen=True)
class Forecast:
    """What is expected; None where nothing is known. `phases` are those that take memory, with
    the weights in each; `loads` is whether a model is not on the device."""

    loads: bool
    seconds: float | None
    memory: ByteFigure
    phases: tuple[tuple[Phase, ByteFigure], ...]
    available: ByteFigure
    fits: bool | None
    degradations: tuple[Degradation, ...] = ()

    @property
    def at_once(self) -> int | None:
        """How many such pictures the free memory suffices for when they share passes: each
        takes what one takes while it is denoised. None where that is not known."""
        sizes = {phase: figure.value for phase, figure in self.phases}
        weights, denoising = sizes.get(Phase.ENCODING_TEXT), sizes.get(Phase.DENOISING)
        available = self.available.value
        if weights is None or denoising is None or available is None or denoising <= weights:
            return None
        return max(available - SPARE_BYTES - weights, 0) // (denoising - weights)


class MeasuredPeak(Value, frozen=True):
    """The least peak in bytes of a device's memory; `work` stands for what was drawn."""

    device_id: Name
    work: Sha256
    peak_bytes: ByteCount


Peaks = Annotated[tuple[MeasuredPeak, ...], Meta(max_length=MOST_TOLD)]
"""The newest last."""


class Forecasts:
    """Tells what generations will take, and learns from those that end.

    Args:
        speeds: How long work took.
        devices: The machine's.
        machine: Knows what lies there and how much is free.
    """

    def __init__(
        self, speeds: Speeds, devices: Devices, machine: Callable[[], Machine]
    ) -> None:
        self._speeds = speeds
        self._devices = devices
        self._machine = machine
        self._peaks: OrderedDict[tuple[str, str], int] = OrderedDict()
        self.lessons = 0
        """How often something was learned."""

    def note(self, settings: GenerationSettings, session: Session) -> None:
        """A generation has ended: its peak is known. The least counts, as others may have lain
        there beside it."""
        peak = session.peak_memory
        if session.state is not SessionState.COMPLETED or peak is None or not peak.value:
            return
        self.lessons += 1
        key = (session.device_id, _of_memory(settings))
        self._peaks[key] = min(self._peaks.get(key, peak.value), peak.value)
        self._peaks.move_to_end(key)
        if len(self._peaks) > _MOST_PEAKS:
            self._peaks.popitem(last=False)

    def measured(self) -> tuple[MeasuredPeak, ...]:
        """The newest of what was learned."""
        newest = list(islice(reversed(self._peaks.items()), MOST_TOLD))
        return tuple(MeasuredPeak(*key, peak) for key, peak in newest[::-1])

    def recall(self, earlier: tuple[MeasuredPeak, ...]) -> None:
        """Know what was learned in an earlier run; to be called before anything is learned."""
        for one in earlier:
            self._peaks[one.device_id, one.work] = one.peak_bytes

    async def of(
        self,
        device_id: str,
        effort: Effort,
        settings: GenerationSettings,
        models: Sequence[Model],
    ) -> Forecast:
        """What resolved settings will take on a device, as things are now.

        Args:
            device_id: Which.
            effort: How much work they are.
            settings: What is drawn.
            models: The checkpoint, and those that are used with it.

        Raises:
            ResourceExhausted: HOST_OUT_OF_MEMORY or DEVICE_OUT_OF_MEMORY: the weights alone are
                more than there is in all.
        """
        machine = self._machine()
        device = await self._devices.resolve(device_id)
        extent = await machine.memory.extent(Place(device_id))
        held = machine.models.held()
        own = {model.model_id: held_weights(model, device, held) for model in models}
        weights = sum(_weights(device, model, own[model.model_id]) for model in models)
        if extent.total is not None and weights > extent.total:
            raise _too_large(device, weights, extent.total)
        phases = _phases(device, settings, models, weights)
        memory = max(
            (figure for _, figure in phases),
            key=lambda figure: figure.value or 0,
            default=ByteFigure.unknown("the model's header does not tell its shapes"),
        )
        measured = self._peaks.get((device_id, _of_memory(settings)))
        if measured is not None:
            memory = ByteFigure(measured, FigureQuality.ESTIMATED, _MEASURED)
        idle = sum(
            one.size_bytes
            for one in machine.models.idle(device_id)
            if one.device_id == device_id and one.model_id not in own
        )
        there = idle + sum(figure.value or 0 for figure in own.values() if figure)
        available = None if extent.free is None else extent.free + there
        fits = None
        if available is not None and memory.value is not None:
            spare = SPARE_BYTES if measured is None else 0
            fits = memory.value + spare <= available
        return Forecast(
            any(own[model.model_id] is None for model in models if loads(model.type)),
            self._seconds(device_id, effort, loading=own[models[0].model_id] is None),
            memory,
            phases,
            ByteFigure.unknown("the device does not say how much is free")
            if available is None
            else ByteFigure(available, FigureQuality.ESTIMATED, _WITH_IDLE),
            fits,
            _in_tiles(settings, phases, available) if fits is False else (),
        )

    def _seconds(self, device_id: str, effort: Effort, *, loading: bool) -> float | None:
        work = self._speeds.work_seconds(device_id, effort)
        load = self._speeds.load_seconds(device_id, effort.model_id) if loading else 0.0
        return None if work is None or load is None else work + load


def _of_memory(settings: GenerationSettings) -> str:
    """What of settings decides how much memory they take, and some that does not, as a hash."""
    start, inpainting = settings.image_to_image, settings.inpainting
    alike = replace(
        settings,
        prompt="",
        negative_prompt="",
        seed=None,
        seeds=(),
        image_count=None,
        steps=1,
        guidance=GuidanceSettings() if settings.guidance.guided else GuidanceSettings(1.0),
        image_to_image=None if start is None else replace(start, strength=1.0, image=None),
        inpainting=inpainting and replace(inpainting, strength=1.0, image=None, mask=None),
    )
    return hashlib.sha256(encode(alike)).hexdigest()


def _weights(device: Device, model: Model, held: ByteFigure | None) -> int:
    """Of a model on the device, as they lie there or would; of a LoRA as in its file."""
    if held is not None:
        return held.value or 0
    if model.type is ModelType.LORA:
        return model.size_bytes
    return weights_by_header(model, device, ()).value or 0


def _phases(
    device: Device, settings: GenerationSettings, models: Sequence[Model], weights: int
) -> tuple[tuple[Phase, ByteFigure], ...]:
    if not weights:
        return ()
    number = FULL if device.traits.full_numbers else HALF
    vae = next((each for each in models if each.type is ModelType.VAE), models[0])
    again = settings.second_pass
    named = again.postprocessor_id if again else ""
    needs = phase_bytes(
        models[0],
        vae,
        settings,
        next((each for each in models if named and each.model_id == named), None),
        number=number,
        in_main_memory=device.traits.in_main_memory,
    )
    return tuple(
        (phase, ByteFigure(weights + need, FigureQuality.ESTIMATED, _SHAPES))
        for phase in (
            Phase.ENCODING_TEXT,
            Phase.PREPARING_INPUT,
            Phase.DENOISING,
            Phase.DECODING,
        )
        if (need := needs.get(phase)) is not None
    )


def _in_tiles(
    settings: GenerationSettings,
    phases: tuple[tuple[Phase, ByteFigure], ...],
    available: int | None,
) -> tuple[Degradation, ...]:
    """What will be done about too little memory, where that is allowed and enough."""
    if available is None or settings.precision is PrecisionMode.EXACT:
        return ()
    short = [phase for phase, figure in phases if (figure.value or 0) > available]
    if short != [Phase.DECODING]:
        return ()
    return (
        Degradation(
            DegradationKind.VAE_TILED,
            "Memory will probably not suffice to decode the picture whole; it is decoded in "
            "tiles then.",
        ),
    )


def _too_large(device: Device, needed: int, total: int) -> ResourceExhausted:
    host = device.traits.in_main_memory
    return ResourceExhausted(
        f"The weights need {needed} bytes, and there are {total} in all; use a smaller model "
        "or another device.",
        reason=Reason.HOST_OUT_OF_MEMORY if host else Reason.DEVICE_OUT_OF_MEMORY,
        metadata={"needed_bytes": str(needed), "total_bytes": str(total)},
    )
