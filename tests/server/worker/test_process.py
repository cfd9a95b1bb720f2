"""How the end of a worker's process is noticed."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.worker.front.environment import child_environment
from server.worker.front.process import WorkerProcess

PATIENCE = 20.0


class Kernel:
    """What macOS has in place of `os.waitid` before Python 3.13: tells of a child's end, which
    is still there to be waited for then."""

    KQ_FILTER_PROC, KQ_EV_ADD, KQ_EV_ONESHOT, KQ_NOTE_EXIT = -5, 1, 16, 1 << 31
    closed = 0

    @staticmethod
    def kevent(process_id: int, filter: int, flags: int, fflags: int) -> SimpleNamespace:
        assert (filter, flags, fflags) == (-5, 17, 1 << 31)
        return SimpleNamespace(process_id=process_id)

    def kqueue(self) -> Kernel:
        return self

    def control(self, events: list[SimpleNamespace], most: int) -> list[SimpleNamespace]:
        assert most == 1
        status = Path(f"/proc/{events[0].process_id}/stat")
        deadline = time.monotonic() + PATIENCE
        if status.read_text().rpartition(")")[2].split()[0] == "Z":
            raise ProcessLookupError
        while status.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return events

    def close(self) -> None:
        self.closed += 1


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="the system itself is so")
@pytest.mark.parametrize("late", [False, True])
def test_where_a_child_cannot_be_waited_for_without_burying_it_its_end_is_told(
    monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Also of one that ended before anybody asked."""
    kernel, ended = Kernel(), threading.Event()
    monkeypatch.delattr(os, "waitid")
    names = ("KQ_FILTER_PROC", "KQ_EV_ADD", "KQ_EV_ONESHOT", "KQ_NOTE_EXIT", "kevent", "kqueue")

    def kqueue() -> Kernel:
        time.sleep(0.5 * late)
        return kernel

    for name in names:
        monkeypatch.setattr(select, name, getattr(kernel, name), raising=False)
    monkeypatch.setattr(select, "kqueue", kqueue)
    process = WorkerProcess(
        [sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(3)"],
        child_environment(),
        b"record",
        on_line=lambda line: None,
        on_exit=ended.set,
    )
    assert process.wait(PATIENCE)
    assert ended.wait(PATIENCE)
    assert process.exit_code == 3
    assert kernel.closed == 1
    process.release()
