"""Pictures that share passes, beside the same pictures drawn one by one, as Markdown.

    python -m bench.throughput [--device cpu] [--pictures 8] [--steps 10] [--out FILE.md]
    python -m bench.throughput --device cuda:0 --full-shape FOLDER --edge 512 --steps 30

Draws with the demo model, or with a checkpoint of SDXL's full shape and random numbers, which
is put into the folder and stays there. EXACT and FASTEST have an engine each, and all arms draw
the same square pictures, which differ in prompt and seed, in turn. The passes alone are
measured too, by how many pictures they have: they show how much there is to gain on the device.
Processor seconds are those of the whole process: they hardly change when other work takes cores
away.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.machine import describe_machine
from bench.measure import median
from bench.model_files import DEMO, random_model
from domains.inference.backends.device import synchronize
from domains.inference.backends.engine import Engine
from domains.inference.backends.together import Together
from domains.inference.jobs import GenerationJob, GenerationReport
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
)
from domains.session.jobs import EncodedImage
from domains.values import ModelPlace

# The first call of a shape runs plainly, the second is recorded.
_UNCOUNTED = 2
_PRECISIONS = (PrecisionMode.EXACT, PrecisionMode.FASTEST)
_WORDS = ("apple", "house", "cat", "star", "tree", "fish", "sun", "heart")


class _Album:
    """A job's context that keeps the picture."""

    def __init__(self) -> None:
        self.picture: np.ndarray | None = None

    def emit(self, event: object) -> None:
        """Keep what comes out."""
        if isinstance(event, EncodedImage):
            with Image.open(io.BytesIO(event.data)) as opened:
                self.picture = np.asarray(opened, dtype=np.float64)

    def check_stop(self) -> None:
        """Nobody stops it."""


def _place(folder: Path | None) -> ModelPlace:
    if folder is None:
        return ModelPlace.of(DEMO)
    return random_model(folder)


def _jobs(
    place: ModelPlace, edge: int, count: int, steps: int, precision: PrecisionMode
) -> list[GenerationJob]:
    return [
        GenerationJob(
            GenerationSettings(
                model_id="emoji",
                prompt=f"a {_WORDS[number % len(_WORDS)]}",
                width=edge,
                height=edge,
                steps=steps,
                guidance=GuidanceSettings(6.0),
                scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
                seeds=(number,),
                precision=precision,
            ),
            place,
        )
        for number in range(count)
    ]


def _singly(engine: Engine, jobs: Sequence[GenerationJob]) -> tuple[list[_Album], float]:
    albums, decoding = [_Album() for _ in jobs], 0.0
    for job, album in zip(jobs, albums, strict=True):
        decoding += engine.generate(job, album).timings.decode
    return albums, decoding


def _together(engine: Engine, jobs: Sequence[GenerationJob]) -> tuple[list[_Album], float]:
    albums, decoding = [_Album() for _ in jobs], 0.0
    pairs = [Together(job, album) for job, album in zip(jobs, albums, strict=True)]
    for outcome in engine.generate_together(pairs):
        assert isinstance(outcome, GenerationReport), outcome
        decoding += outcome.timings.decode
    return albums, decoding


def _passes(engine: Engine, device: torch.device, edge: int, rounds: int) -> dict[int, float]:
    """Milliseconds for each picture of a pass with guidance, by how many share it; recorded
    where the device records."""
    model = engine._loader.models.newest
    assert model is not None, "pictures were drawn"
    unet, config = model.unet_call(), model.plan_config("unet")
    pooled = config["projection_class_embeddings_input_dim"] - (
        6 * config["addition_time_embed_dim"]
    )
    kind, size = (
        next(model.networks["unet"].parameters()).dtype,
        edge // model.pixels_per_latent,
    )

    def call(pictures: int) -> Callable[[], object]:
        made = partial(torch.randn, device=device, dtype=kind)
        rows = 2 * pictures
        return partial(
            unet,
            made(rows, 4, size, size),
            torch.full((rows,), 500.0, device=device),
            made(rows, 77, config["cross_attention_dim"]),
            added_cond_kwargs={"text_embeds": made(rows, pooled), "time_ids": made(rows, 6)},
            return_dict=False,
        )

    calls = {pictures: call(pictures) for pictures in (1, 2, 4, 8)}
    found: dict[int, list[float]] = {pictures: [] for pictures in calls}
    with torch.no_grad():
        for _ in range(_UNCOUNTED + rounds):
            for pictures, act in calls.items():
                found[pictures].append(1_000 * _timed(act, device)[0] / pictures)
    return {pictures: median(times[_UNCOUNTED:]) for pictures, times in found.items()}


def _gibibytes(device: torch.device) -> float:
    """What the allocator holds of the device, what recordings work in included."""
    return torch.cuda.memory_reserved(device) / 2**30 if device.type == "cuda" else 0.0


def _timed(act: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds on the wall and of the processor."""
    synchronize(device)
    began, worked = time.perf_counter(), time.process_time()
    act()
    synchronize(device)
    return time.perf_counter() - began, time.process_time() - worked


def _decibels(some: Sequence[_Album], others: Sequence[_Album]) -> float:
    """The least PSNR of pairs of pictures."""
    worst = 0.0
    for one, other in zip(some, others, strict=True):
        assert one.picture is not None
        assert other.picture is not None
        worst = max(worst, float(np.mean((one.picture - other.picture) ** 2)))
    return float("inf") if worst == 0 else float(10 * np.log10(255**2 / worst))


@dataclass
class _Arm:
    """One way to draw the pictures: what its rounds took, the first of which does not count."""

    engine: Engine
    jobs: list[GenerationJob]
    draw: Callable[[Engine, Sequence[GenerationJob]], tuple[list[_Album], float]]
    albums: list[_Album] = field(default_factory=list)
    rounds: list[tuple[float, float, float]] = field(default_factory=list)
    held: float = 0.0
    """GiB, after the first."""

    def round(self, device: torch.device) -> None:
        """Draw them once more."""
        decoding = 0.0

        def act() -> None:
            nonlocal decoding
            self.albums, decoding = self.draw(self.engine, self.jobs)

        self.rounds.append((*_timed(act, device), decoding))
        self.held = self.held or _gibibytes(device)

    def seconds(self) -> tuple[float, float, float]:
        """On the wall, of the processor, and of decodings on the wall."""
        wall, work, decoding = zip(*self.rounds[1:], strict=True)
        return median(wall), median(work), median(decoding)


def _table(arms: Mapping[tuple[PrecisionMode, str], _Arm]) -> list[str]:
    exact = arms[PrecisionMode.EXACT, "one by one"]
    base = exact.seconds()
    lines = [
        "| Precision | Way | s | Ratio to EXACT one by one | to its own one by one "
        "| Processor, s | Ratio | Decoding in it, s | Least PSNR, dB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (precision, way), arm in arms.items():
        wall, work, decoding = arm.seconds()
        own = arms[precision, "one by one"].seconds()
        lines.append(
            f"| {precision.name} | {way} | {wall:.2f} | {base[0] / wall:.2f} "
            f"| {own[0] / wall:.2f} | {work:.2f} | {base[1] / work:.2f} | {decoding:.2f} "
            f"| {_decibels(exact.albums, arm.albums):.1f} |"
        )
    return lines


def _passes_table(engine: Engine, device: torch.device, edge: int, rounds: int) -> list[str]:
    found = _passes(engine, device, edge, rounds)
    return [
        "| Pictures in a pass | ms for each | Ratio |",
        "|---|---|---|",
        *(f"| {n} | {ms:.1f} | {found[1] / ms:.2f} |" for n, ms in found.items()),
    ]


def main(arguments: Sequence[str]) -> int:
    """Measure all arms in turn, and keep the report."""
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full-shape", type=Path, help="the folder for such a checkpoint")
    parser.add_argument("--edge", type=int, default=256)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where to keep the report")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    place, edge = _place(options.full_shape), options.edge
    engines = {precision: Engine(options.device) for precision in _PRECISIONS}
    arms = {
        (precision, way): _Arm(
            engine, _jobs(place, edge, options.pictures, options.steps, precision), draw
        )
        for precision, engine in engines.items()
        for way, draw in (("one by one", _singly), ("together", _together))
    }
    for number in range(options.rounds + 1):
        for arm in reversed(arms.values()) if number % 2 else arms.values():
            arm.round(device)
    machine = describe_machine()
    lines = [
        f"# Pictures that share passes, on {options.device}",
        "",
        "Written by `python -m bench.throughput`.",
        "",
        f"{machine.processor}, {machine.cores} cores, {torch.get_num_threads()} threads; "
        + ", ".join(f"{name} {version}" for name, version in machine.packages.items()),
        "",
        f"{torch.cuda.get_device_name(device) + '; ' if device.type == 'cuda' else ''}"
        f"{'SDXL at full shape' if options.full_shape else 'The demo model'}; "
        f"{options.pictures} pictures of {edge}x{edge}, {options.steps} steps of Euler with "
        f"guidance; medians of {options.rounds} rounds in turn. PSNR is against EXACT one by "
        "one.",
        "",
        *_table(arms),
    ]
    for precision, engine in engines.items():
        lines += ["", f"Passes alone, {precision.name}:", ""]
        lines += _passes_table(engine, device, edge, options.rounds)
    if device.type == "cuda":
        told = (f"{p.name} {way} {arm.held:.2f}" for (p, way), arm in arms.items())
        lines += ["", f"Memory held after the first round of each, GiB: {', '.join(told)}."]
    print("\n".join(lines))
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
