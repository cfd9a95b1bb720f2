"""Several pictures of one job, each decoded beside the next one's steps, in a stream of its
own, and not, in one process: times, whether the bytes are the same, and the most memory. On a
card, with an SDXL checkpoint of 6.9 GB of random numbers that is made in FOLDER if it is not
there yet.

`python -m bench.accelerator_overlap FOLDER --out OUT` writes `overlap.json` and `overlap.md` to
OUT. With `--tiny` a model of a megabyte draws tiny pictures, on a processor where there is no
card: that shows that it runs, and measures nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.model_files import random_model
from domains.inference.backends.beside import Lane
from domains.inference.backends.engine import Engine
from domains.inference.jobs import GenerationJob, GenerationReport
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
)
from domains.session.jobs import EncodedImage
from domains.session.types import ImageDecoded, StepFinished
from domains.values import ModelPlace
from tests.fakes.tiny_models import save_sdxl

_MIB = 2**20
_EDGES, _TINY_EDGES = (1024, 512), (64,)
_WAYS = {
    "alone": "in turn, before any was decoded beside",
    "in_turn": "in turn",
    "beside": "beside",
}
_Figures = dict[str, float]


class Listener:
    """A job's context that notes what it hears, and when."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str, object]] = []

    def emit(self, event: object) -> None:
        """Note an event, and the thread that told it."""
        self.heard.append((time.perf_counter(), threading.current_thread().name, event))

    def check_stop(self) -> None:
        """Nobody stops it."""

    @property
    def files(self) -> list[bytes]:
        """The pictures."""
        events = [event for _, _, event in self.heard]
        return [event.data for event in events if isinstance(event, EncodedImage)]

    @property
    def beside(self) -> int:
        """How many were decoded beside steps."""
        main = threading.main_thread().name
        return sum(
            isinstance(event, ImageDecoded) and thread != main
            for _, thread, event in self.heard
        )

    @property
    def step_seconds(self) -> float:
        """The median time from one step of a picture to its next."""
        steps = [(at, event) for at, _, event in self.heard if isinstance(event, StepFinished)]
        pairs = itertools.pairwise(steps)
        gaps = [b - a for (a, _), (b, later) in pairs if later.step > 1]
        return statistics.median(gaps) if gaps else 0.0


@dataclass
class Bench:
    """One engine with one model; `lane` is where it decodes beside steps."""

    engine: Engine
    place: ModelPlace
    lane: Lane
    pictures: int
    steps: int
    rounds: int

    def draw(self, edge: int, *, beside: bool) -> tuple[Listener, _Figures]:
        """The pictures of one job."""
        settings = GenerationSettings(
            model_id="one",
            prompt="a red apple on a blue background, highly detailed",
            width=edge,
            height=edge,
            steps=self.steps,
            guidance=GuidanceSettings(7.0),
            scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
            seeds=tuple(range(7, 7 + self.pictures)),
            precision=PrecisionMode.EXACT,
        )
        self.engine.lane = self.lane if beside else None
        heard, began = Listener(), time.perf_counter()
        report = self.engine.generate(GenerationJob(settings, self.place), heard)
        seconds = time.perf_counter() - began
        assert isinstance(report, GenerationReport)
        figures = {
            "job_s": seconds,
            "step_ms": 1000 * heard.step_seconds,
            "denoise_s": report.timings.denoise,
            "decode_s": report.timings.decode,
            "encode_image_s": report.timings.encode_image,
            "decoded_beside": float(heard.beside),
        }
        return heard, figures

    def memory(self, edge: int, *, beside: bool) -> _Figures:
        """The most memory of such a job, nothing being left of another."""
        if not torch.cuda.is_available():
            return {}
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        self.draw(edge, beside=beside)
        return {
            "peak_allocated_mib": torch.cuda.max_memory_allocated() / _MIB,
            "peak_reserved_mib": torch.cuda.max_memory_reserved() / _MIB,
        }

    def compared(self, edge: int) -> dict[str, Any]:
        """In turn alone, and then both ways by turns, after one of each that does not count:
        a second stream may leave a card slower than it was.
        """
        self.draw(edge, beside=False)
        alone = [self.draw(edge, beside=False)[1] for _ in range(self.rounds)]
        first = {way: self.draw(edge, beside=way)[0].files for way in (False, True)}
        same = first[False] == first[True]
        memory = {way: self.memory(edge, beside=way) for way in (False, True)}
        rounds: dict[bool, list[_Figures]] = {False: [], True: []}
        for turn in range(self.rounds):
            for way in (False, True) if turn % 2 else (True, False):
                heard, figures = self.draw(edge, beside=way)
                same = same and heard.files == first[False]
                rounds[way].append(figures)
        found: dict[str, Any] = {
            "alone": _medians(alone),
            "in_turn": _medians(rounds[False]) | memory[False],
            "beside": _medians(rounds[True]) | memory[True],
            "in_turn_job_s": [round(each["job_s"], 4) for each in rounds[False]],
            "beside_job_s": [round(each["job_s"], 4) for each in rounds[True]],
            "same_bytes": same,
        }
        found["times"] = round(found["alone"]["job_s"] / found["beside"]["job_s"], 4)
        return found


def _medians(rounds: Sequence[_Figures]) -> _Figures:
    return {
        name: round(statistics.median(each[name] for each in rounds), 4) for name in rounds[0]
    }


def _table(found: dict[str, Any]) -> str:
    lines = [
        f"{found['pictures']} pictures in a job, {found['steps']} steps, medians of "
        f"{found['rounds']}; {found['device']}, torch {found['torch']}.",
        "",
        "| Size | Decoded | Job, s | Step, ms | Decodings, s | Beside | Most memory, MiB "
        "(allocated, reserved) | Same bytes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size, each in found["sizes"].items():
        for way, words in _WAYS.items():
            row = each[way]
            memory = ", ".join(
                f"{row[name]:.0f}"
                for name in ("peak_allocated_mib", "peak_reserved_mib")
                if name in row
            )
            lines.append(
                f"| {size} | {words} | {row['job_s']:.3f} | "
                f"{row['step_ms']:.2f} | {row['decode_s']:.3f} | {row['decoded_beside']:.0f} | "
                f"{memory or '-'} | {'yes' if each['same_bytes'] else 'NO'} |"
            )
        lines.append(f"| {size} | gain | {each['times']:.3f} times | | | | | |")
    return "\n".join(lines) + "\n"


def _model(folder: Path, *, tiny: bool) -> ModelPlace:
    if tiny:
        if not (folder / "tiny").exists():
            save_sdxl(folder / "tiny")
        return ModelPlace(folder, Path("tiny"))
    return random_model(folder)


def main(arguments: list[str]) -> int:
    """Measure; 1 where the bytes differ, or nothing was decoded beside steps."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_overlap", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="Where the checkpoint is put, and stays.")
    parser.add_argument("--out", type=Path, required=True, help="Folder of the results.")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--edges", type=int, nargs="*", help="One by one in fresh processes.")
    parser.add_argument("--tiny", action="store_true", help="See that it runs.")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    given.out.mkdir(parents=True, exist_ok=True)
    card = torch.cuda.is_available()
    engine = Engine("cuda:0" if card else "cpu")
    if not card and not given.tiny:
        parser.error("there is no card; --tiny runs on a processor")
    lane = engine.lane or nullcontext  # a processor does one thing at a time
    place = _model(given.folder, tiny=given.tiny)
    bench = Bench(engine, place, lane, given.pictures, given.steps, given.rounds)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if card else "a processor",
        "torch": torch.__version__,
        "pictures": given.pictures,
        "steps": given.steps,
        "rounds": given.rounds,
        "sizes": {},
    }
    for edge in given.edges or (_TINY_EDGES if given.tiny else _EDGES):
        found["sizes"][f"{edge}x{edge}"] = bench.compared(edge)
        # What is known is kept, whatever happens to the next size.
        (given.out / "overlap.json").write_text(json.dumps(found, indent=2) + "\n")
        (given.out / "overlap.md").write_text(_table(found))
    print(_table(found))
    print(json.dumps(found, indent=2))
    right = all(
        each["same_bytes"] and each["beside"]["decoded_beside"] > 0
        for each in found["sizes"].values()
    )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
