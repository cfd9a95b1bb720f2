"""What ValidateGeneration tells of memory, beside what a device measures, as Markdown.

    python -m bench.estimates --device cuda:0 FOLDER [--demo] [--out FILE.md]

Needs the engine alone: it writes an SDXL checkpoint of 6.9 GB with random numbers into FOLDER,
and draws with it in this process; with --demo it is the demo model. It draws
with a union of ControlNets too, of one picture and of several. First it counts, without a
device, how much of their largest tensors the networks keep alive at once: the factors that the
estimates stand on.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace

from bench.machine import describe_machine
from bench.memory_factors import STATED, counted, known
from bench.model_files import DEMO, write_single_file
from domains.device.backends.peaks import Stretch
from domains.device.backends.torch_gauge import in_main_memory, stretch_on
from domains.errors import FailedPrecondition
from domains.inference.backends.device import release_memory
from domains.inference.backends.engine import Engine
from domains.inference.core.memory_needs import (
    FULL,
    HALF,
    phase_bytes,
)
from domains.inference.jobs import Companion, ControlPictures, GenerationJob
from domains.inference.types import (
    ControlNetGuidance,
    GenerationSettings,
    GuidanceSettings,
    Scheduler,
    SchedulerSettings,
)
from domains.model.backends.component import plan_component
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.planned import components
from domains.model.backends.plans import plan_model
from domains.model.types import Model, ModelFormat, ModelType
from domains.picture.types import PreparedPicture
from domains.session.types import Phase, PhaseStarted
from domains.values import ControlNetType, ModelPlace

_SIZES = ((512, 512), (1024, 1024), (1536, 1024))
_GUIDANCE = (7.0, 1.0)
_UNION_PICTURES = (1, 4)


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


@dataclass(frozen=True)
class Bench:
    """A model on a device, told of in memory's terms and drawn with."""

    engine: Engine
    device: torch.device
    place: ModelPlace
    say: Callable[[str], None]

    @property
    def number(self) -> int:
        """Bytes of one of most networks' numbers."""
        return FULL if in_main_memory(self.device) else HALF

    def compare(
        self, label: str, settings: GenerationSettings, further: int = 0, **job: Any
    ) -> None:
        """Draw once, and say what was told and what was measured.

        Args:
            label: What is drawn.
            settings: Resolved.
            further: Bytes of weights beside the model's.
            job: What else the job has.
        """
        model = described(self.place)
        weights = further + sum(
            part.parameter_count * (FULL if part.full_precision else self.number)
            for part in model.components
        )
        context: Any = _Peaks(self.device)
        needs = phase_bytes(model, model, settings, number=self.number)
        try:
            self.engine.generate(GenerationJob(settings, self.place, **job), context)
        except FailedPrecondition as error:
            self.say(f"| {label} | {error.message} | | | |")
        context.end()
        for phase, need in needs.items():
            self._row(label, phase.value, weights + need, context.peaks.get(phase))
        told = weights + max(needs.values(), default=0)
        drawn = [context.peaks[phase] for phase in needs if phase in context.peaks]
        self._row(label, "**the peak**", told, max(drawn, default=None))
        release_memory(self.device)

    def _row(self, label: str, name: str, told: int, measured: int | None) -> None:
        if not measured:
            self.say(f"| {label} | {name} | {told / 2**20:.0f} | | |")
            return
        self.say(
            f"| {label} | {name} | {told / 2**20:.0f} | {measured / 2**20:.0f} "
            f"| {told / measured:.3f} |"
        )


def measure(bench: Bench, union: ModelPlace, folder: Path) -> None:
    """Draw at each size, and with a union with one picture and with several.

    Args:
        bench: Draws.
        union: The union of ControlNets.
        folder: Where its pictures are put.
    """
    bench.say("| Drawn | Phase | Estimate, MiB | Measured, MiB | Estimate / measured |")
    bench.say("|---|---|---|---|---|")
    for width, height in _SIZES:
        for scale in _GUIDANCE:
            guided = "guided" if scale > 1 else "not guided"
            bench.compare(f"{width}x{height}, {guided}", _settings(width, height, scale))
    network = plan_component(ConfinedFiles(union))
    further = network.parameter_count * bench.number
    for width, height in _SIZES:
        picture = _picture(folder, width, height)
        for count in _UNION_PICTURES:
            nets = tuple(
                ControlNetGuidance("union", control_type=kind)
                for kind in list(ControlNetType)[:count]
            )
            bench.compare(
                f"{width}x{height}, a union, pictures: {count}",
                replace(_settings(width, height, _GUIDANCE[0]), control_nets=nets),
                further,
                companions=(Companion("union", ModelType.CONTROL_NET, union),),
                controls=(ControlPictures((picture,)),) * count,
            )


def _settings(width: int, height: int, scale: float) -> GenerationSettings:
    return GenerationSettings(
        prompt="a red apple",
        model_id="bench",
        width=width,
        height=height,
        steps=2,
        guidance=GuidanceSettings(scale),
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
        seeds=(1,),
    )


def _picture(folder: Path, width: int, height: int) -> PreparedPicture:
    """A grey control picture."""
    pixels = b"\x80" * (3 * width * height)
    path = folder / f"{width}x{height}.rgb"
    path.write_bytes(pixels)
    return PreparedPicture(path, width, height, hashlib.sha256(pixels).hexdigest())


def _union(folder: Path, *, demo: bool) -> ModelPlace:
    """A union of random numbers for SDXL, or for the demo model."""
    from tests.domains.model.corpus.parts import part

    if not demo:
        path = folder / "random-union.safetensors"
        if not path.exists():
            write_single_file(path, 2, part("control-union"))
        return ModelPlace.of(path)
    from diffusers import ControlNetUnionModel, UNet2DConditionModel

    path = folder / "union"
    if not path.exists():
        unet: Any = UNet2DConditionModel.load_config(DEMO / "unet")
        width = unet["block_out_channels"][0]
        sizes = {"num_trans_channel": width, "num_proj_channel": width}
        kind: Any = ControlNetUnionModel
        kind(**known(ControlNetUnionModel, unet) | sizes).save_pretrained(path)
    return ModelPlace.of(path)


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
    options.folder.mkdir(parents=True, exist_ok=True)
    path = DEMO if options.demo else options.folder / "random-sdxl.safetensors"
    if not path.exists():
        write_single_file(path, 1)
    device = torch.device(options.device)
    bench = Bench(Engine(options.device), device, ModelPlace.of(path), say)
    try:
        measure(bench, _union(options.folder, demo=options.demo), options.folder)
    finally:
        if options.out is not None:
            options.out.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
