"""Workers' lives: started, lost, replaced, kept out of use, ended."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from domains.device.types import DeviceKind, DeviceState, WorkerStatus
from domains.errors import Reason, ResourceExhausted, Unavailable
from domains.inference.jobs import GenerationJob
from domains.inference.types import GuidanceSettings
from domains.private_folders import FolderRefused
from domains.session.errors import DeviceOutOfUse, ShuttingDown
from server.worker.front.environment import child_environment
from server.worker.front.pool import WorkerOptions
from server.worker.front.restart import RestartRules
from server.worker.front.spool import Spool
from server.worker.front.timing import WorkerTiming
from tests.server.worker.workers import (
    DEVICE,
    PATIENCE,
    SECOND,
    SOON,
    accepted,
    eventually,
    lives,
    outcome,
    ready,
    rogue,
    running,
    scripted,
    until,
    work,
)

STRICT = RestartRules(first_delay=0.02, longest_delay=0.02)


async def test_a_worker_says_who_and_what_it_is(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        status = await ready(pool)
        assert status.explanation == ""
        assert lives(status.process_id)
        assert status.restart_count == 0
        assert status.software_versions["python"].startswith("3.")
        await eventually(lambda: pool.status("cpu:0").heartbeat_time is not None)
        assert pool.status("cpu:0").resident_bytes > 1_000_000
        assert pool.status("cpu:0").progress_time is None


async def test_a_device_without_a_worker_is_unavailable(tmp_path: Path) -> None:
    async with running(tmp_path, scripted(), devices=()) as pool:
        assert pool.status("cpu:0").state is DeviceState.UNAVAILABLE
        error = (await outcome(pool)).raised(Unavailable)
        assert error.reason is Reason.DEVICE_UNAVAILABLE
        with pytest.raises(Unavailable):
            await pool.restart("cpu:0")
        pool.cancel("cpu:0", "session")


async def test_workers_start_side_by_side_while_the_front_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path, scripted("hang-at-start"), devices=(DEVICE, SECOND)) as pool:
        for device in (DEVICE, SECOND):
            assert pool.status(device.device_id).state is DeviceState.STARTING

        def processes() -> list[int]:
            return [pool.status(name).process_id for name in ("cpu:0", "cpu:1")]

        await eventually(lambda: all(processes()))
        first, second = processes()
        assert first != second
        # Devices found later join; those that have a worker keep it.
        await pool.start([DEVICE, SECOND])
        assert processes() == [first, second]


async def test_an_idle_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    states: list[DeviceState] = []
    async with running(tmp_path, scripted()) as pool:
        first = await ready(pool)
        pool.subscribe(lambda _, status: states.append(status.state))
        os.kill(first.process_id, signal.SIGKILL)
        await until(pool, lambda status: status.state is DeviceState.RECOVERING)
        assert pool.status("cpu:0").explanation == "The worker was ended by signal SIGKILL."
        assert pool.status("cpu:0").process_id == 0
        second = await ready(pool)
        assert second.process_id != first.process_id
        assert second.restart_count == 1
        assert states == [DeviceState.RECOVERING, DeviceState.READY]
        assert (await outcome(pool)).report is not None


async def test_signals_that_ask_are_left_to_the_front(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        status = await ready(pool)
        os.kill(status.process_id, signal.SIGINT)
        os.kill(status.process_id, signal.SIGTERM)
        assert (await outcome(pool)).report is not None
        assert pool.status("cpu:0").process_id == status.process_id


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (scripted("exit-at-start"), "ended with exit code 7"),
        (scripted("no-library"), "cannot start: torch is not installed for it"),
        (scripted("no-device"), "cannot start: There is no such adapter"),
        (rogue("never-connect"), "did not say hello within 0.6 s"),
        (rogue("never-hello"), "did not say hello within 0.6 s"),
        (rogue("wrong-key"), "ended with exit code 1"),
        (rogue("wrong-version"), "speaks another version"),
        (rogue("wrong-device"), "owns another device"),
        (rogue("no-hello-first"), "first frame is no hello"),
        ([str(Path("no", "such", "python"))], "its program cannot be run"),
        (
            ["env", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1", *scripted()],
            "cannot start: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set",
        ),
    ],
)
async def test_a_worker_that_cannot_start_says_why(
    tmp_path: Path, command: list[str], words: str
) -> None:
    waiting = any(word.startswith("never") for word in command)
    timing = WorkerTiming(start=0.6 if waiting else 30.0, exit=2.0)
    states: list[DeviceState] = []
    async with running(tmp_path, command, timing=timing) as pool:
        pool.subscribe(lambda _, status: states.append(status.state))
        status = await until(pool, lambda status: status.state is DeviceState.RECOVERING)
        assert words in status.explanation
        assert DeviceState.READY not in states


async def test_five_deaths_put_a_device_out_of_use_until_an_operator_helps(
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    command = scripted(f"die-while={broken}")
    async with running(tmp_path / "spool", command, rules=STRICT) as pool:
        waiting = asyncio.create_task(outcome(pool))
        status = await until(pool, lambda status: status.state is DeviceState.QUARANTINED)
        assert status.restart_count == 4
        assert (await waiting).raised(DeviceOutOfUse).reason is Reason.DEVICE_QUARANTINED
        started = time.monotonic()
        error = (await outcome(pool)).raised(DeviceOutOfUse)
        assert error.reason is Reason.DEVICE_QUARANTINED
        assert error.metadata == {"device_id": "cpu:0"}
        assert error.retry_after == pytest.approx(900, abs=5)
        assert time.monotonic() - started < SOON  # it waits for no worker

        with pytest.raises(Unavailable) as again:
            await pool.restart("cpu:0")
        assert again.value.reason is Reason.DEVICE_UNAVAILABLE

        broken.unlink()
        await pool.restart("cpu:0")
        assert pool.status("cpu:0").state is DeviceState.READY
        assert (await outcome(pool)).report is not None


async def test_a_device_out_of_use_is_tried_again_by_itself(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    rules = RestartRules(first_delay=0.02, longest_delay=0.02, deaths=2, quarantine=0.3)
    states: list[DeviceState] = []
    command = scripted(f"die-while={broken}")
    async with running(tmp_path / "spool", command, rules=rules) as pool:
        pool.subscribe(lambda _, status: states.append(status.state))
        await until(
            pool,
            lambda status: (
                status.restart_count == 2 and status.state is DeviceState.QUARANTINED
            ),
        )
        # The probe died: one death is enough to rest again.
        recovering, *rest = states
        assert recovering is DeviceState.RECOVERING
        assert set(rest) == {DeviceState.QUARANTINED}
        broken.unlink()
        await ready(pool)


async def test_a_worker_that_gives_no_sign_of_life_is_replaced(tmp_path: Path) -> None:
    timing = WorkerTiming(beat=2.2)
    async with running(tmp_path, scripted(), timing=timing) as pool:
        first = await ready(pool)
        os.kill(first.process_id, signal.SIGSTOP)
        lost = await until(pool, lambda status: status.state is DeviceState.RECOVERING)
        assert "no sign of life" in lost.explanation
        assert (await ready(pool)).process_id != first.process_id
        assert not lives(first.process_id)


async def test_a_restart_waits_for_the_run(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        first = await ready(pool)
        begun = asyncio.Event()
        run = asyncio.create_task(
            outcome(pool, _long(0.5), session_id="long", on_event=lambda _: begun.set())
        )
        await begun.wait()
        restart = asyncio.create_task(pool.restart("cpu:0"))
        await asyncio.sleep(0)
        after = asyncio.create_task(outcome(pool, session_id="after"))
        assert (await run).report is not None
        await restart
        assert pool.status("cpu:0").process_id != first.process_id
        # Work that came while the restart waited is done by the new worker.
        assert (await after).report is not None


async def test_a_forced_restart_does_not(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        first = await ready(pool)
        begun = asyncio.Event()
        run = asyncio.create_task(outcome(pool, "slowly", on_event=lambda _: begun.set()))
        await begun.wait()
        await pool.restart("cpu:0", force=True)
        error = (await run).raised(Unavailable)
        assert error.reason is Reason.WORKER_LOST
        assert pool.status("cpu:0").process_id != first.process_id


async def test_asked_restarts_are_not_held_against_the_device(tmp_path: Path) -> None:
    rules = RestartRules(first_delay=30.0, deaths=2)
    async with running(tmp_path, scripted(), rules=rules) as pool:
        await ready(pool)
        for _ in range(3):
            await pool.restart("cpu:0")
        assert pool.status("cpu:0").state is DeviceState.READY


async def test_a_restart_asked_while_one_starts_hurries_none_that_dies_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    folder_of = Spool.folder_of

    def slowly(spool: Spool, device_id: str) -> Path:
        asked.wait(PATIENCE)
        return folder_of(spool, device_id)

    monkeypatch.setattr(Spool, "folder_of", slowly)
    rules = RestartRules(first_delay=0.02, deaths=1)
    async with running(tmp_path, scripted(), rules=rules) as pool:
        restart = asyncio.create_task(pool.restart("cpu:0"))
        await asyncio.sleep(0)
        asked.set()
        await restart
        os.kill(pool.status("cpu:0").process_id, signal.SIGKILL)
        await until(pool, lambda status: status.state is DeviceState.QUARANTINED)
        for _ in range(20):  # a worker is started at once, or not at all
            await asyncio.sleep(0.1)
            assert pool.status("cpu:0").state is DeviceState.QUARANTINED
            assert pool.status("cpu:0").restart_count == 0


async def test_stopping_lets_a_run_finish_within_the_grace(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        process_id = (await ready(pool)).process_id
        begun = asyncio.Event()
        run = asyncio.create_task(outcome(pool, _long(0.5), on_event=lambda _: begun.set()))
        await begun.wait()
        waiting = asyncio.create_task(outcome(pool, session_id="waiting"))
        await asyncio.sleep(0)
        await pool.stop(20.0)
        assert (await run).report is not None
        assert (await waiting).raised(ShuttingDown).reason is Reason.SHUTTING_DOWN
        assert not lives(process_id)
        assert pool.status("cpu:0").state is DeviceState.UNAVAILABLE
        late = (await outcome(pool)).raised(ShuttingDown)
        assert late.reason is Reason.SHUTTING_DOWN


async def test_stopping_ends_what_does_not_finish(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        process_id = (await ready(pool)).process_id
        begun = asyncio.Event()
        run = asyncio.create_task(outcome(pool, "hang", on_event=lambda _: begun.set()))
        await begun.wait()
        await pool.stop(0.1)
        assert (await run).raised(ShuttingDown).reason is Reason.SHUTTING_DOWN
        assert not lives(process_id)


async def test_stopping_ends_workers_that_are_still_starting(tmp_path: Path) -> None:
    async with running(tmp_path, scripted("hang-at-start")) as pool:
        await eventually(lambda: pool.status("cpu:0").process_id != 0)
        process_id = pool.status("cpu:0").process_id
        started = time.monotonic()
        await pool.stop(PATIENCE)
        assert time.monotonic() - started < SOON
        assert not lives(process_id)


async def test_what_earlier_servers_left_is_swept(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    spool = tmp_path / "spool"
    ours = (f"accepted/{'0a' * 16}.png", "worker-cpu-0/1-0.png.abcd1234.part")
    for name in (*ours, "stray"):
        (spool / name).parent.mkdir(parents=True, exist_ok=True)
        (spool / name).touch()
    (spool / "linked").symlink_to(outside)
    async with running(spool, scripted()) as pool:
        await ready(pool)
        left = sorted(path.relative_to(spool) for path in spool.rglob("*"))
        assert left == [Path(name) for name in ("accepted", "linked", "stray", "worker-cpu-0")]
        assert (outside / "kept").exists()


async def test_what_a_dead_worker_left_is_swept_and_what_was_delivered_is_not(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, scripted()) as pool:
        images = (await outcome(pool)).images
        leftover = tmp_path / "worker-cpu-0" / "9-0.png"
        leftover.touch()
        os.kill(pool.status("cpu:0").process_id, signal.SIGKILL)
        await until(pool, lambda status: status.restart_count == 1)
        await ready(pool)
        assert not leftover.exists()
        assert sorted(image.path for image in images) == sorted(accepted(tmp_path))


async def test_a_file_in_the_place_of_a_spool_folder_is_set_aside(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()) as pool:
        first = await ready(pool)
        folder = tmp_path / "worker-cpu-0"
        folder.rmdir()
        folder.touch()
        os.kill(first.process_id, signal.SIGKILL)
        await until(pool, lambda status: status.restart_count == 1)
        await ready(pool)
        assert folder.is_dir()
        assert (await outcome(pool)).images


@pytest.mark.parametrize("code", [errno.EROFS, None])
async def test_a_spool_folder_that_cannot_be_made_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    async with running(tmp_path, scripted()) as pool:
        first = await ready(pool)

        def refuse(*_: object) -> None:
            raise (OSError(code, os.strerror(code)) if code else FolderRefused("Not ours."))

        with monkeypatch.context() as disk:
            disk.setattr("server.worker.front.spool.prepare", refuse)
            os.kill(first.process_id, signal.SIGKILL)
            status = await until(
                pool, lambda status: "spool folder cannot be made" in status.explanation
            )
            assert status.state is DeviceState.RECOVERING
            why = os.strerror(code) if code else "not the server's own"
            assert why in status.explanation
        await ready(pool)


async def test_a_picture_that_the_front_cannot_take_over_costs_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, scripted()) as pool:
        first = await ready(pool)

        def refuse(*_: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        with monkeypatch.context() as disk:
            disk.setattr("server.worker.front.spool.prepare", refuse)
            refused = (await outcome(pool)).raised(Unavailable)
            assert refused.reason is Reason.STORAGE_UNAVAILABLE
        assert (await outcome(pool)).images
        assert pool.status("cpu:0").process_id == first.process_id


async def test_a_run_ends_soon_after_a_picture_that_cannot_be_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails in any case: what it would still draw is of no use, and others wait."""
    async with running(tmp_path, scripted()) as pool:
        await ready(pool)

        def refuse(*_: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as system:
            system.setattr("server.worker.front.spool.prepare", refuse)
            (await outcome(pool, "once-and-slowly")).raised(ResourceExhausted)
        assert (await outcome(pool)).images


async def test_pictures_that_cannot_be_deleted_hold_no_device_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their caller left, and the disk has become one that is only read."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    async with running(tmp_path, scripted()) as pool:
        await ready(pool)
        events = pool.run("cpu:0", "session", work("once-and-slowly"), remaining=PATIENCE)
        await anext(events)
        await eventually(lambda: bool(accepted(tmp_path)))
        with monkeypatch.context() as disk:
            disk.setattr(Path, "unlink", refuse)
            await events.aclose()
        assert len(accepted(tmp_path)) == 1  # until the next start
        assert (await outcome(pool)).images


async def test_folders_that_go_while_it_works_cost_no_worker(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    async with running(spool, scripted()) as pool:
        first = await ready(pool)
        for _ in range(2):
            shutil.rmtree(spool)
            assert (await outcome(pool)).images
        assert pool.status("cpu:0").process_id == first.process_id


async def test_listeners_can_leave(tmp_path: Path) -> None:
    told: list[WorkerStatus] = []
    async with running(tmp_path, scripted()) as pool:
        end = pool.subscribe(lambda _, status: told.append(status))
        end()
        end()
        await ready(pool)
        assert told == []


def test_the_front_side_needs_no_torch() -> None:
    code = (
        "import sys, server.worker.front.pool; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=child_environment()).returncode == 0


def test_the_workers_side_needs_neither_grpc_nor_protobuf() -> None:
    """Their interpreters may be older than the front's and have other libraries."""
    code = (
        "import sys, server.worker.child.__main__, server.worker.child.loop; "
        "ours = ('grpc', 'google.protobuf', 'deviceops'); "
        "sys.exit(any(name in sys.modules for name in ours))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=child_environment()).returncode == 0


def _without_threads(environment: dict[str, str]) -> dict[str, str]:
    """The environment as a user has it, who says nothing about threads."""
    ours = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS")
    return {name: value for name, value in environment.items() if name not in ours}


def settled(**given: str) -> list[str]:
    """What a worker's libraries find in the environment, with these variables given."""
    names = (
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "DIFFUSERS_DISABLE_REMOTE_CODE",
        "OPENBLAS_NUM_THREADS",
    )
    code = (
        "import os; from server.worker.child.environment import settle_environment as s; s();"
        f"print(*(os.environ.get(name, 'unset') for name in {(*names, 'GOMP_SPINCOUNT')}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=_without_threads(child_environment()) | given,
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.split()


def test_a_workers_libraries_are_kept_off_the_network_and_considerate() -> None:
    assert settled(HF_HUB_OFFLINE="0") == ["1", "1", "1", "1", "3000"]


def test_how_threads_wait_can_be_said_otherwise() -> None:
    assert settled(GOMP_SPINCOUNT="5")[-1] == "5"
    assert settled(OPENBLAS_NUM_THREADS="4")[-2] == "4"
    assert settled(OMP_WAIT_POLICY="ACTIVE")[-1] == "unset"


def test_a_kind_of_device_can_be_given_more_patience() -> None:
    options = WorkerOptions(Path("spool"), hang={DeviceKind.CPU: 900})

    assert options.timing_of(DeviceKind.CPU).hang == 900
    assert options.timing_of(DeviceKind.CUDA) == options.timing


def _long(seconds: float) -> GenerationJob:
    return work("checks-only", guidance=GuidanceSettings(seconds))
