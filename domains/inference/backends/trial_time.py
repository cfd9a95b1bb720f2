"""How long something takes on a device when it is done again and again."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from domains.device.backends import faults
from domains.inference.backends.beside import one_at_a_time
from domains.inference.backends.device import synchronize
from domains.inference.backends.step_graphs import Recorder

# A trial that takes longer than this once is not repeated.
_LONG_TRIAL_SECONDS = 1.0
_REPEATS = 3


def shortest_seconds(
    run: Callable[[], object],
    device: torch.device,
    recorder: Recorder | None,
    unrecorded: Callable[[], object] | None = None,
) -> float:
    """The shortest of a few runs, after one that fills caches and picks kernels.

    Args:
        run: Does it once; it must wait for nothing.
        device: Where it is done.
        recorder: Of the device, where calls will be replayed: then replays count. What cannot
            be recorded is run plainly, as it will be.
        unrecorded: What will be done in its place where nothing is recorded, if that is more;
            it does what `run` does as well.

    Raises:
        Exception: As `run` raises it; shortage of memory while recording too.
    """
    plain = unrecorded or run
    first = _seconds(plain, device)
    again = (None if recorder is None else _recorded(run, recorder)) or plain
    if again is plain and first > _LONG_TRIAL_SECONDS:
        return first
    return min(_seconds(again, device) for _ in range(_REPEATS))


def _recorded(run: Callable[[], object], recorder: Recorder) -> Callable[[], object] | None:
    try:
        with one_at_a_time:
            return recorder.record(run)[0]
    except Exception as error:
        if faults.is_shortage(error):
            raise
        faults.drop_frames(error)
        return None


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - began
