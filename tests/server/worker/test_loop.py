"""The worker's own side, driven by hand over a real link."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import psutil
import pytest
from msgspec.structs import replace

from domains.codec import encode
from domains.errors import Cancelled, DeadlineExceeded
from server.worker.front.environment import child_environment
from server.worker.link import frames
from server.worker.link.connection import Link, LinkListener
from server.worker.link.exits import EXIT_OK, EXIT_ORPHANED
from server.worker.link.start_record import StartRecord
from tests.server.worker.workers import eventually, lives, scripted, work


class Worker:
    """A worker process and the front's end of its link."""

    def __init__(self, spool: Path, errors: IO[bytes] | None = None) -> None:
        self.listener = LinkListener(os.fspath(spool / "link"))
        self.record = StartRecord(
            address=self.listener.address,
            key=self.listener.key,
            device_id="cpu:0",
            torch_device="cpu",
            spool_dir=spool,
            log_level="info",
            parent_process_id=os.getpid(),
        )
        self.process = subprocess.Popen(
            scripted(), stdin=subprocess.PIPE, stderr=errors, env=child_environment()
        )
        self.link: Link | None = None

    def start(self) -> Link:
        """Tell it its record and read its hello."""
        with ThreadPoolExecutor(1) as threads:
            accepting = threads.submit(self.listener.accept)
            self.tell(self.record)
            self.link = accepting.result(timeout=20)
        assert isinstance(self.heard(), frames.Hello)
        return self.link

    def tell(self, record: StartRecord) -> None:
        """Write its start record."""
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write(record.to_bytes())

    def order(self, order: frames.ToWorker) -> None:
        """Send it an order."""
        assert self.link is not None
        self.link.send(encode(order))

    def heard(self) -> frames.FromWorker:
        """What it says next, beats left out."""
        assert self.link is not None
        while isinstance(frame := frames.decode_from_worker(self.link.receive()), frames.Beat):
            pass
        return frame

    def answer(self) -> frames.FromWorker:
        """How its run ends."""
        while isinstance(frame := self.heard(), frames.Progress):
            pass
        return frame


def run(session_id: str, epoch: int, remaining: float, prompt: str = "draw") -> frames.RunOrder:
    """An order to draw."""
    return frames.RunOrder(session_id, epoch, remaining, frames.raw(work(prompt)))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path)
    yield worker
    worker.process.kill()
    worker.process.wait()
    if worker.process.stdin is not None:
        worker.process.stdin.close()
    if worker.link is not None:
        worker.link.close()
    worker.listener.close()


def test_it_beats_and_ends_when_told(worker: Worker) -> None:
    link = worker.start()
    beats = [frames.decode_from_worker(link.receive()) for _ in range(2)]
    assert all(isinstance(beat, frames.Beat) for beat in beats)
    worker.order(frames.Shutdown())
    assert worker.process.wait(60) == EXIT_OK


def test_it_has_a_folder_of_its_own_for_compiled_code(worker: Worker, tmp_path: Path) -> None:
    code_dir = tmp_path / "compiled"
    worker.record = replace(worker.record, code_dir=code_dir)
    worker.start()
    assert sorted(each.name for each in code_dir.iterdir()) == ["kernels", "unpacked-cpu"]


def test_it_finishes_its_run_before_it_ends(worker: Worker) -> None:
    worker.start()
    worker.order(run("a", 1, 30.0))
    worker.order(frames.Shutdown())
    assert isinstance(worker.answer(), frames.Done)
    assert worker.process.wait(60) == EXIT_OK


def test_it_ends_when_the_link_breaks_even_in_mid_work(worker: Worker) -> None:
    link = worker.start()
    worker.order(run("a", 1, 30.0, "spin"))
    assert isinstance(worker.heard(), frames.Progress)
    link.close()
    assert worker.process.wait(60) == EXIT_ORPHANED


def test_it_ends_when_an_order_makes_no_sense(worker: Worker) -> None:
    link = worker.start()
    link.send(b"\xff\xff")
    assert worker.process.wait(60) == EXIT_ORPHANED


def test_a_second_run_at_once_is_a_fault_it_does_not_survive(worker: Worker) -> None:
    worker.start()
    worker.order(run("a", 1, 30.0, "slowly"))
    worker.order(run("b", 2, 30.0))
    assert worker.process.wait(60) == EXIT_ORPHANED


def test_a_cancel_that_comes_right_after_the_run_is_heard(worker: Worker) -> None:
    worker.start()
    worker.order(run("a", 1, 30.0, "slowly"))
    worker.order(frames.Cancel("a"))
    failed = worker.answer()
    assert isinstance(failed, frames.Failed)
    assert isinstance(failed.failure.error(), Cancelled)
    assert (failed.session_id, failed.epoch, failed.sticky) == ("a", 1, False)
    # It does not stick to the next one.
    worker.order(frames.Cancel("a"))
    worker.order(run("b", 2, 30.0))
    assert isinstance(worker.answer(), frames.Done)


def test_it_keeps_to_the_deadline_by_itself(worker: Worker) -> None:
    worker.start()
    begun = time.monotonic()
    worker.order(run("a", 1, 0.3, "slowly"))
    failed = worker.answer()
    assert isinstance(failed, frames.Failed)
    assert isinstance(failed.failure.error(), DeadlineExceeded)
    assert time.monotonic() - begun > 0.25


@pytest.mark.skipif(sys.platform != "linux", reason="the system itself is asked there")
def test_it_does_not_work_for_a_parent_that_is_gone(tmp_path: Path) -> None:
    """Or for a script in between, which would keep it alive when the server is gone."""
    said = tmp_path / "said"
    with said.open("wb") as errors:
        worker = Worker(tmp_path, errors)
    worker.tell(replace(worker.record, parent_process_id=1))
    assert worker.process.wait(60) == 1
    assert "a script that runs one with exec" in said.read_text()
    worker.listener.close()


def test_it_does_not_start_without_the_key(worker: Worker) -> None:
    with ThreadPoolExecutor(1) as threads:
        accepting = threads.submit(worker.listener.accept)
        worker.tell(replace(worker.record, key=bytes(32)))
        assert worker.process.wait(60) == EXIT_ORPHANED
        worker.listener.abandon()
        assert accepting.exception(timeout=60) is not None


def test_no_worker_outlives_a_front_that_is_killed(tmp_path: Path) -> None:
    front = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.front", str(tmp_path)],
        stdout=subprocess.PIPE,
        env=child_environment(),
    )
    try:
        assert front.stdout is not None
        with front.stdout as stdout:
            workers = [int(word) for word in stdout.readline().split()]
        # Idle, in a loop that looks at nothing, still starting, and without a thread that
        # could notice: only the system can end the last one.
        assert len(workers) == 4
        assert all(map(lives, workers))
        assert {child.pid for child in psutil.Process(front.pid).children()} == set(workers)
    finally:
        front.kill()
        front.wait()
    asyncio.run(eventually(lambda: not any(map(lives, workers))))
