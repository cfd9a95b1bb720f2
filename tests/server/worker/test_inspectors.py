"""Inspectors that do not answer: each ends its own job with a typed error, and is gone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from domains.codec import encode
from domains.errors import DeadlineExceeded, DomainError, Reason, ResourceExhausted, Unavailable
from domains.model.jobs import InspectionReport, InspectJob
from domains.model.views import ValidationDepth
from domains.provenance.jobs import VerifyJob
from domains.provenance.types import MarkKeys, Trust
from domains.session.errors import ShuttingDown
from domains.session.types import Phase, PhaseStarted
from domains.values import ModelPlace
from server.worker.child.limits import limit_to
from server.worker.front.environment import child_environment
from server.worker.front.inspectors import InspectorOptions, Inspectors
from server.worker.link import frames
from server.worker.link.connection import offer_link
from server.worker.link.exits import EXIT_OK
from server.worker.link.start_record import InspectorRecord
from tests.domains.model.disk import write_safetensors
from tests.scarcity import NoThreads

PATIENCE_SECONDS = 120.0


def unruly(how: str) -> Callable[[], list[str]]:
    """Starts the product's inspector around a handler that breaks one rule."""
    return lambda: [sys.executable, "-m", "tests.fakes.unruly_inspector", how]


def job(folder: Path) -> InspectJob:
    file = write_safetensors(folder / "model.safetensors", {"a.weight": (2, 2)})
    return InspectJob("model", ModelPlace.of(file), ValidationDepth.FULL)


async def outcome(
    inspectors: Inspectors,
    wanted: InspectJob | VerifyJob,
    *,
    remaining: float = PATIENCE_SECONDS,
) -> InspectionReport:
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        aclosing(inspectors.run("", "session", wanted, remaining=remaining)) as run,
    ):
        async for said in run:
            if isinstance(said, InspectionReport):
                return said
    raise AssertionError("it ended without a report")


def children() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [child for child in found if "inspector" in " ".join(child.cmdline())]


async def test_an_inspector_does_its_job_and_is_gone(tmp_path: Path) -> None:
    report = await outcome(Inspectors(InspectorOptions()), job(tmp_path))

    assert report.findings == ()
    assert len(report.sha256) == 64
    assert not children()


@pytest.mark.parametrize(
    ("how", "error", "reason"),
    [
        ("crash", Unavailable, Reason.WORKER_LOST),
        ("hang", DeadlineExceeded, Reason.WORKER_HUNG),
        ("connect", DomainError, Reason.INTERNAL),
        ("start", DomainError, Reason.INTERNAL),
    ],
)
async def test_what_goes_wrong_in_one_is_told(
    tmp_path: Path, how: str, error: type[DomainError], reason: Reason
) -> None:
    options = InspectorOptions(
        hang_seconds=2.0 if how == "hang" else 120.0, command=unruly(how)
    )
    with pytest.raises(error) as failed:
        await outcome(Inspectors(options), job(tmp_path))

    assert failed.value.reason is reason
    assert not children()


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not bound address space")
async def test_one_that_outgrows_its_memory_is_stopped(tmp_path: Path) -> None:
    options = InspectorOptions(memory_bytes=1 << 30, command=unruly("grow"))
    with pytest.raises(ResourceExhausted) as failed:
        await outcome(Inspectors(options), job(tmp_path))

    assert failed.value.reason is Reason.HOST_OUT_OF_MEMORY
    assert not children()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX systems")
@pytest.mark.parametrize(("system", "memory"), [("darwin", False), ("linux", True)])
def test_where_memory_cannot_be_bounded_the_rest_is(
    monkeypatch: pytest.MonkeyPatch, system: str, memory: bool
) -> None:
    """macOS refuses a bound below what it maps into every process, which is a lot."""
    resource = pytest.importorskip("resource")
    bounded: set[int] = set()

    def bound(which: int, limits: tuple[int, int]) -> None:
        if which == resource.RLIMIT_AS and system == "darwin":
            raise ValueError("current limit exceeds maximum limit")
        bounded.add(which)

    monkeypatch.setattr(resource, "setrlimit", bound)
    monkeypatch.setattr(sys, "platform", system)
    limit_to(InspectorRecord("address", b"key", "info", 1, 1 << 32, 60))
    assert {resource.RLIMIT_CPU, resource.RLIMIT_CORE} <= bounded
    assert (resource.RLIMIT_AS in bounded) is memory


async def test_a_job_too_large_for_the_link_is_refused_at_once(tmp_path: Path) -> None:
    """Whom an operator trusts may fill more than a frame."""
    large = VerifyJob(tmp_path / "a.png", Trust("x" * (1 << 20)), MarkKeys())
    with pytest.raises(ResourceExhausted) as refused:
        await outcome(Inspectors(InspectorOptions(hang_seconds=4.0)), large)

    assert refused.value.reason is Reason.MESSAGE_TOO_LARGE
    assert not children()


async def test_its_time_is_bounded(tmp_path: Path) -> None:
    inspectors = Inspectors(InspectorOptions(command=unruly("hang")))
    with pytest.raises(DeadlineExceeded):
        await outcome(inspectors, job(tmp_path), remaining=2.0)

    assert not children()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX systems")
async def test_the_time_for_which_everything_was_held_up_is_no_hang(tmp_path: Path) -> None:
    """As when a machine sleeps, or a container is paused."""
    options = InspectorOptions(hang_seconds=2.0, command=unruly("dawdle"))
    async with aclosing(
        Inspectors(options).run("", "session", job(tmp_path), remaining=PATIENCE_SECONDS)
    ) as running:
        assert await anext(running) == PhaseStarted(Phase.READING)
        [child] = children()
        child.suspend()
        time.sleep(3.0)  # noqa: ASYNC251 - the front
        child.resume()
        assert isinstance(await anext(running), InspectionReport)


def test_one_ends_with_the_front_in_mid_work_also_where_the_system_does_not_see_to_it(
    tmp_path: Path,
) -> None:
    offer = offer_link()
    record = InspectorRecord(offer.address, offer.key, "info", os.getpid(), 4 << 30, 60)
    with subprocess.Popen(
        unruly("hang")(),
        stdin=subprocess.PIPE,
        env=child_environment(),
        pass_fds=offer.descriptors,
    ) as process:
        try:
            offer.hand_over()
            assert process.stdin is not None
            with process.stdin as stdin:
                stdin.write(record.to_bytes())
            link = offer.accept()
            link.send(encode(frames.RunOrder("session", 1, 60.0, frames.raw(job(tmp_path)))))
            assert isinstance(frames.decode_from_worker(link.receive()), frames.Progress)
            link.close()
            offer.close()
            assert process.wait(20) == EXIT_OK
        finally:
            process.kill()


async def test_stopping_ends_what_runs_and_takes_nothing_more(tmp_path: Path) -> None:
    inspectors = Inspectors(InspectorOptions(command=unruly("hang")))
    wanted = job(tmp_path)
    async with aclosing(
        inspectors.run("", "session", wanted, remaining=PATIENCE_SECONDS)
    ) as running:
        assert await anext(running) == PhaseStarted(Phase.READING)
        inspectors.stop()
        with pytest.raises(ShuttingDown):
            await anext(running)
    with pytest.raises(ShuttingDown):
        await outcome(inspectors, wanted)

    assert not children()


async def test_an_error_of_who_listens_to_one_ends_its_job_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack(frame: bytes) -> frames.FromWorker:
        raise MemoryError

    monkeypatch.setattr(frames, "decode_from_worker", lack)
    with pytest.raises(ResourceExhausted) as failed:
        await outcome(Inspectors(InspectorOptions()), job(tmp_path))

    assert failed.value.reason is Reason.HOST_OUT_OF_MEMORY
    assert not children()


def test_one_begins_without_what_other_jobs_need() -> None:
    """One is started for each model of a root: what all of them import adds up."""
    heavy = "{'asyncio', 'numpy', 'PIL', 'c2pa', 'cryptography'}"
    program = f"import sys, server.worker.child.inspector; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


async def test_without_a_thread_that_reads_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = NoThreads(monkeypatch, "worker-output", "worker-exit")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        await outcome(Inspectors(InspectorOptions()), job(tmp_path))
    assert threads.refused
    assert not children()
