"""What ValidateGeneration tells of memory, beside what a device measures, as Markdown.

    python -m bench.estimates --device cuda:0 FOLDER [--demo] [--out FILE.md]

Needs the engine alone: it writes an SDXL checkpoint of 6.9 GB with random numbers into FOLDER,
and draws with it in this process; with --demo it is the demo model. First it counts, without a
device, how much of their largest tensors the networks keep alive at once: the factors that the
estimates stand on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from bench.machine import describe_machine
from bench.model_files import DEMO, write_single_file
from domains.device.backends.peaks import Stretch
from domains.device.backends.torch_gauge import in_main_memory, stretch_on
from domains.errors import FailedPrecondition
from domains.inference.backends.device import release_memory
from domains.inference.backends.engine import Engine
from domains.inference.core.memory_needs import (
    ENCODE,
    FULL,
    HALF,
    phase_bytes,
)
from domains.inference.jobs import GenerationJob
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    Scheduler,
    SchedulerSettings,
)
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.planned import components
from domains.model.backends.plans import plan_model
from domains.model.core.room import (
    CONTROLLED_ATTENDING,
    CONTROLLED_PLAIN,
    STEP_ATTENDING,
    STEP_PLAIN,
)
from domains.model.types import Model, ModelFormat, ModelType
from domains.session.types import Phase, PhaseStarted
from domains.values import ModelPlace

_SIZES = ((512, 512), (1024, 1024), (1536, 1024))
_GUIDANCE = (7.0, 1.0)
STATED: Mapping[str, float] = {
    "step, attending": STEP_ATTENDING,
    "step, plain": STEP_PLAIN,
    "step, attending, with ControlNets": CONTROLLED_ATTENDING,
    "step, attending, a second ControlNet": CONTROLLED_ATTENDING,
    "step, plain, with ControlNets": CONTROLLED_PLAIN,
    "step, plain, a second ControlNet": CONTROLLED_PLAIN,
    "decode, without convolutions' own": 3,
    "encode": ENCODE,
}
"""The factors that the estimates stand on. Of a step with ControlNets it is the greater of the
UNet's call and of theirs."""


class _Alive(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, parameters apart."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self._own = {_storage(each).cdata for each in network.parameters()}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor) and _storage(each).cdata not in self._own:
                kept = _storage(each)
                self._alive[kept.cdata] = (kept, each.untyped_storage().nbytes())
        self._alive = {key: one for key, one in self._alive.items() if not one[0].expired()}
        self.most = max(self.most, sum(size for _, size in self._alive.values()))
        return result


def _storage(tensor: torch.Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def _without_matrix(query: Any, key: Any, value: Any, **_: Any) -> Any:
    return torch.empty(*query.shape[:-1], value.shape[-1], dtype=query.dtype)


def counted() -> dict[str, float]:
    """The factors of `memory_needs`, counted over networks of full shape that hold nothing."""
    from diffusers import AutoencoderKL

    from tests.domains.model.corpus.configurations import SD1, SDXL, VAE

    attention = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = _without_matrix
    found = {}
    try:
        with torch.device("meta"), torch.no_grad():
            for name, config in (("step, attending", SD1), ("step, plain", SDXL)):
                found |= _of_steps(name, config)
            vae = AutoencoderKL(**known(AutoencoderKL, VAE))
            first, second, *_ = vae.config["block_out_channels"]
            with _Alive(vae) as alive:
                vae.decode(torch.empty(1, 4, 64, 64))
            # What convolutions lay out for themselves no dispatch shows.
            found["decode, without convolutions' own"] = alive.most / (
                second * 512 * 512 * FULL
            )
            with _Alive(vae) as alive:
                vae.encode(torch.empty(1, 3, 512, 512))
            found["encode"] = alive.most / (first * 512 * 512 * FULL)
    finally:
        torch.nn.functional.scaled_dot_product_attention = attention
    return found


def _of_steps(name: str, config: Mapping[str, Any]) -> dict[str, float]:
    """The factors of a step: alone, with what ControlNets give it, and while a second one of
    them is called."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    unet = UNet2DConditionModel(**known(UNet2DConditionModel, config))
    net = ControlNetModel(**known(ControlNetModel, config))
    sample = torch.empty(2, 4, 64, 64)
    usual = {
        "timestep": torch.tensor(1.0),
        "encoder_hidden_states": torch.empty(2, 77, unet.config["cross_attention_dim"]),
        "added_cond_kwargs": {
            "text_embeds": torch.empty(2, 1280),
            "time_ids": torch.empty(2, 6),
        },
    }
    picture = torch.empty(2, 3, 512, 512)
    largest = unet.config["block_out_channels"][0] * sample[:, 0].numel() * FULL

    def control() -> tuple[list[torch.Tensor], torch.Tensor]:
        blocks, middle = net(sample, controlnet_cond=picture, return_dict=False, **usual)
        return blocks, middle

    def step(blocks: Any = None, middle: Any = None) -> None:
        unet(
            sample,
            down_block_additional_residuals=blocks,
            mid_block_additional_residual=middle,
            **usual,
        )

    shapes = [each.shape for each in control()[0]]
    middle_shape = control()[1].shape
    with _Alive(unet) as alone:
        step()
    with _Alive(unet) as controlled:
        step([torch.empty(shape) for shape in shapes], torch.empty(middle_shape))
    with _Alive(net) as second:
        first = control()
        blocks, _ = control()
        [one + two for one, two in zip(first[0], blocks, strict=True)]
    return {
        name: alone.most / largest,
        f"{name}, with ControlNets": controlled.most / largest,
        f"{name}, a second ControlNet": second.most / largest,
    }


def known(kind: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration a class of networks takes."""
    names = kind.__init__.__wrapped__.__code__.co_varnames
    return {name: value for name, value in config.items() if name in names}


class _Peaks:
    """A job's context that takes the peak of each phase."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._phase: Phase | None = None
        self._stretch: Stretch | None = None
        self.peaks: dict[Phase, int] = {}

    def emit(self, event: object) -> None:
        """A phase begins, or something within one."""
        if isinstance(event, PhaseStarted):
            self.end()
            self._phase, self._stretch = event.phase, stretch_on(self._device)

    def end(self) -> None:
        """The phase is over."""
        if self._stretch is not None and self._phase is not None:
            peak = self._stretch.peak().value or 0
            self.peaks[self._phase] = max(peak, self.peaks.get(self._phase, 0))

    def check_stop(self) -> None:
        """Nobody stops it."""


def described(place: ModelPlace) -> Model:
    """The model as the catalogue would have it, as far as estimates look at it."""
    plan = plan_model(ConfinedFiles(place))
    return Model(
        model_id="bench",
        name="bench",
        type=ModelType.CHECKPOINT,
        architecture=plan.architecture,
        format=ModelFormat.SAFETENSORS,
        place=place,
        size_bytes=0,
        modified_at=datetime.now(UTC),
        components=components(plan),
    )


def measure(device: torch.device, place: ModelPlace, say: Callable[[str], None]) -> None:
    """Draw at each size, and say what was told and what was measured."""
    model, engine = described(place), Engine(str(device))
    number = FULL if in_main_memory(device) else HALF
    weights = sum(
        part.parameter_count * (FULL if part.full_precision else number)
        for part in model.components
    )
    say("| Size | Guided | Phase | Estimate, MiB | Measured, MiB | Estimate / measured |")
    say("|---|---|---|---|---|---|")
    for width, height in _SIZES:
        for scale in _GUIDANCE:
            settings = GenerationSettings(
                prompt="a red apple",
                model_id="bench",
                width=width,
                height=height,
                steps=2,
                guidance=GuidanceSettings(scale),
                scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
                seeds=(1,),
            )
            context: Any = _Peaks(device)
            needs = phase_bytes(model, model, settings, number=number)
            try:
                engine.generate(GenerationJob(settings, place), context)
            except FailedPrecondition as error:
                say(f"| {width}x{height} | {scale > 1} | {error.message} | | | |")
            context.end()
            rows = {phase.value: (weights + need, phase) for phase, need in needs.items()}
            for name, (told, phase) in rows.items():
                _row(say, f"{width}x{height}", scale, name, told, context.peaks.get(phase))
            told = weights + max(needs.values(), default=0)
            drawn = [context.peaks[phase] for phase in needs if phase in context.peaks]
            _row(
                say, f"{width}x{height}", scale, "**the peak**", told, max(drawn, default=None)
            )
            release_memory(device)


def _row(
    say: Callable[[str], None],
    size: str,
    scale: float,
    name: str,
    told: int,
    measured: int | None,
) -> None:
    if not measured:
        say(f"| {size} | {scale > 1} | {name} | {told / 2**20:.0f} | | |")
        return
    say(
        f"| {size} | {scale > 1} | {name} | {told / 2**20:.0f} | {measured / 2**20:.0f} "
        f"| {told / measured:.3f} |"
    )


def main(arguments: Sequence[str]) -> int:
    """Count, measure, and keep the report."""
    parser = argparse.ArgumentParser(prog="python -m bench.estimates", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--demo", action="store_true", help="the demo model, which is small")
    parser.add_argument("--out", type=Path, help="where to keep the report")
    options = parser.parse_args(arguments)
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    machine = describe_machine()
    say(f"# Estimates of memory on {options.device}\n")
    say("Written by `python -m bench.estimates`.\n")
    say(f"{machine.processor}, {machine.cores} cores; {machine.packages}\n")
    say("| Alive at once, of the largest tensor | Counted | In the estimates |\n|---|---|---|")
    for name, factor in counted().items():
        say(f"| {name} | {factor:.2f} | {STATED[name]} |")
    say("")
    path = DEMO if options.demo else options.folder / "random-sdxl.safetensors"
    if not path.exists():
        options.folder.mkdir(parents=True, exist_ok=True)
        write_single_file(path, 1)
    try:
        measure(torch.device(options.device), ModelPlace.of(path), say)
    finally:
        if options.out is not None:
            options.out.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
