"""Inspectors that do not answer: each ends its own job with a typed error, and is gone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from domains.errors import DeadlineExceeded, DomainError, Reason, ResourceExhausted, Unavailable
from domains.model.jobs import InspectionReport, InspectJob
from domains.model.views import ValidationDepth
from domains.provenance.jobs import VerifyJob
from domains.provenance.types import MarkKeys, Trust
from domains.session.errors import ShuttingDown
from domains.session.types import Phase, PhaseStarted
from domains.values import ModelPlace
from server.worker.front.inspectors import InspectorOptions, Inspectors
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


async def test_stopping_ends_what_runs_and_takes_nothing_more(tmp_path: Path) -> None:
    inspectors = Inspectors(InspectorOptions(command=unruly("hang")))
    wanted = job(tmp_path)
    async with aclosing(
        inspectors.run("", "session", wanted, remaining=PATIENCE_SECONDS)
    ) as running:
        assert await anext(running) == PhaseStarted(Phase.READING)
        inspectors.stop()
        with pytest.raises(DomainError) as stopped:
            await anext(running)
    with pytest.raises(ShuttingDown):
        await outcome(inspectors, wanted)

    assert stopped.value.reason is Reason.CANCELLED_BY_CLIENT
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
