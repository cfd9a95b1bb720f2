"""Where a card waits while one picture is drawn: every pause between two of its entries, with
the phase of the work and what the host was at. The engine in one process.

`python -m bench.accelerator_pauses FOLDER [--edge 512] [--precision FASTEST]` makes an SDXL
checkpoint of 6.9 GB with random numbers there, if it is not there yet; FASTEST is without
compiled code. A profiler looks on, which takes time itself: what counts is where pauses are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from bench.accelerator_pictures import Bench
from bench.model_files import random_model
from domains.inference.backends.clock import Clock
from domains.inference.types import PrecisionMode

_LEAST_US = 50.0
_PICTURE, _PHASE = "picture", "phase "
_MOST_NAMED = 8


@dataclass(frozen=True)
class _Span:
    """Microseconds from the beginning of the profile."""

    name: str
    begin: float
    end: float


def _spans(events: Sequence[Any], *, on_card: bool) -> list[_Span]:
    found = [
        _Span(each.name, each.time_range.start, each.time_range.end)
        for each in events
        if (each.device_type == DeviceType.CUDA) == on_card
        # The card has a span of its own for each of these.
        and not (on_card and each.name.startswith((_PICTURE, _PHASE)))
    ]
    return sorted(found, key=lambda span: span.begin)


@contextmanager
def _phases_recorded() -> Iterator[None]:
    """Inside, a profiler sees the phases that the engine's clock counts."""
    real = Clock.time

    @contextmanager
    def time(self: Clock, phase: str) -> Iterator[None]:
        with record_function(_PHASE + phase), real(self, phase):
            yield

    Clock.time = time  # type: ignore[method-assign]
    try:
        yield
    finally:
        Clock.time = real  # type: ignore[method-assign]


def _pauses(events: Sequence[Any]) -> Iterator[dict[str, Any]]:
    host, card = _spans(events, on_card=False), _spans(events, on_card=True)
    (whole,) = (span for span in host if span.name == _PICTURE)
    phases = [span for span in host if span.name.startswith(_PHASE)]
    ends = [_Span("begin", whole.begin, whole.begin), *card, _Span("end", whole.end, whole.end)]
    latest = ends[0]
    for one, other in pairwise(ends):
        latest = max(latest, one, key=lambda span: span.end)
        length = other.begin - latest.end
        if length < _LEAST_US:
            continue
        at = [span.name for span in phases if span.begin <= other.begin <= span.end]
        begun = [span for span in host if latest.end <= span.begin < other.begin]
        longest = sorted(begun, key=lambda span: span.begin - span.end)[:_MOST_NAMED]
        yield {
            "at_ms": round((latest.end - whole.begin) / 1000, 3),
            "pause_us": round(length, 1),
            "phase": at[-1] if at else "",
            "after": latest.name[:60],
            "before": other.name[:60],
            "host": {span.name[:40]: round(span.end - span.begin, 1) for span in longest},
        }


def main(arguments: list[str]) -> int:
    """Draw, look, and print a line for each pause, and their sum by phase."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_pauses", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="Where the checkpoint is put, and stays.")
    parser.add_argument("--edge", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--precision", choices=PrecisionMode.__members__, default="EXACT")
    given = parser.parse_args(arguments)
    bench = Bench(random_model(given.folder), given.steps, 1)
    settings = {
        "width": given.edge,
        "height": given.edge,
        "precision": PrecisionMode[given.precision],
    }
    for _ in range(3):  # loaded, recorded, replayed
        seconds, *_ = bench.draw(**settings)
    with (
        _phases_recorded(),
        profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen,
        record_function(_PICTURE),
    ):
        bench.draw(**settings)
    by_phase: dict[str, float] = {}
    for pause in _pauses(seen.events()):
        print(json.dumps(pause), flush=True)
        phase = pause["phase"]
        by_phase[phase] = by_phase.get(phase, 0.0) + pause["pause_us"] / 1000
    rounded = {phase: round(ms, 3) for phase, ms in by_phase.items()}
    print(json.dumps({"picture_s": round(seconds, 4), "pauses_ms": rounded}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
