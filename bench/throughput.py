"""Pictures that share passes, beside the same pictures drawn one by one, as Markdown.

    python -m bench.throughput [--device cpu] [--pictures 8] [--steps 10] [--out FILE.md]
    python -m bench.throughput --device cuda:0 --full-shape FOLDER --edge 512 --steps 30

Draws with the demo model, or with a checkpoint of SDXL's full shape and random numbers, which
is put into the folder and stays there. Both arms have the same engine and draw square pictures
that differ in prompt and seed, in turn. The passes alone are measured too, by how many pictures
they have: they show how much there is to gain on the device. Processor seconds are those of the
whole process: they hardly change when other work takes cores away.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.machine import describe_machine
from bench.measure import median
from bench.model_files import DEMO, write_single_file
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
    file = folder / "one.safetensors"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_single_file(file, 0)
    return ModelPlace(folder, Path(file.name))


def _jobs(place: ModelPlace, edge: int, count: int, steps: int) -> list[GenerationJob]:
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
                precision=PrecisionMode.EXACT,
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


def main(arguments: Sequence[str]) -> int:
    """Measure both in turn, and keep the report."""
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
    engine, jobs = Engine(options.device), _jobs(place, edge, options.pictures, options.steps)
    arms = {"one by one": _singly, "together": _together}
    times: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
    decodes: dict[str, list[float]] = {arm: [] for arm in arms}
    albums: dict[str, list[_Album]] = {}
    held: dict[str, float] = {}

    def draw(arm: str) -> None:
        albums[arm], decoding = arms[arm](engine, jobs)
        decodes[arm].append(decoding)
        held.setdefault(arm, _gibibytes(device))

    for number in range(options.rounds + 1):
        for arm in reversed(arms) if number % 2 else arms:
            times[arm].append(_timed(partial(draw, arm), device))
    wall = {arm: median([each[0] for each in found[1:]]) for arm, found in times.items()}
    work = {arm: median([each[1] for each in found[1:]]) for arm, found in times.items()}
    decode = {arm: median(found[1:]) for arm, found in decodes.items()}
    per_pass = _passes(engine, device, edge, options.rounds)
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
        f"guidance; medians of {options.rounds} rounds in turn.",
        "",
        "| | One by one, s | Together, s | Ratio |",
        "|---|---|---|---|",
        *(
            f"| {what} | {found['one by one']:.2f} | {found['together']:.2f} | "
            f"{found['one by one'] / found['together']:.2f} |"
            for what, found in (
                ("All of it", wall),
                ("Processor seconds", work),
                ("Decoding in it", decode),
            )
        ),
        "",
        "| Pictures in a pass | ms for each | Ratio |",
        "|---|---|---|",
        *(f"| {n} | {ms:.1f} | {per_pass[1] / ms:.2f} |" for n, ms in per_pass.items()),
        "",
        f"Least PSNR against the pictures one by one: "
        f"{_decibels(albums['one by one'], albums['together']):.1f} dB.",
    ]
    if device.type == "cuda":
        lines += [
            "",
            f"Memory held after the pictures one by one {held['one by one']:.2f} GiB, "
            f"after those together {held['together']:.2f} GiB.",
        ]
    print("\n".join(lines))
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
