"""The server's event loop has its threads from the beginning, and waits for none at its end."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from server.event_loop import NoThreads, Threads, run
from tests.scarcity import NoThreads as Refusal


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(2)
    yield threads
    threads.shutdown()


def test_results_and_errors_come_back(threads: Threads) -> None:
    assert threads.submit(lambda a, b: a + b, 1, b=2).result(60) == 3
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(60)


def test_what_was_cancelled_while_it_waited_is_not_done(threads: Threads) -> None:
    release = threading.Event()
    busy = [threads.submit(release.wait) for _ in range(2)]
    done: list[int] = []
    waiting = threads.submit(done.append, 1)
    assert waiting.cancel()
    release.set()
    assert all(one.result(60) for one in busy)
    assert threads.submit(lambda: True).result(60)
    assert done == []


def test_blocking_work_goes_on_when_the_system_gives_no_more_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> list[int]:
        Refusal(monkeypatch)
        works = (asyncio.to_thread(lambda n=n: n * n) for n in range(100))
        return await asyncio.gather(*works)

    assert run(main()) == [n * n for n in range(100)]


def test_fewer_threads_do(monkeypatch: pytest.MonkeyPatch) -> None:
    Refusal(monkeypatch, "work-0", "work-1")
    threads = Threads(8)
    assert threads.count == 2
    assert threads.submit(lambda: 5).result(60) == 5
    threads.shutdown()


def test_without_any_thread_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Refusal(monkeypatch)
    with pytest.raises(NoThreads, match="no threads"):
        Threads(8)


def test_what_is_asked_for_after_their_end_is_refused() -> None:
    threads = Threads(1)
    done = threads.submit(lambda: 5)
    threads.shutdown()
    assert done.result(60) == 5
    with pytest.raises(RuntimeError, match="told to end"):
        threads.submit(lambda: 5)


def test_a_thread_that_hangs_does_not_hold_up_the_end() -> None:
    code = (
        "import asyncio, threading\n"
        "from server.event_loop import run\n"
        "async def main():\n"
        "    asyncio.create_task(asyncio.to_thread(threading.Event().wait))\n"
        "    await asyncio.sleep(0.05)\n"
        "run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_processes_are_awaited_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> int | None:
        Refusal(monkeypatch)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "raise SystemExit(7)"
        )
        return await process.wait()

    before = asyncio.get_child_watcher()
    assert run(main()) == 7
    assert asyncio.get_child_watcher() is before


def test_processes_are_awaited_where_the_system_has_no_handles_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(process_id: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    async def main() -> int | None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "raise SystemExit(7)"
        )
        return await process.wait()

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    assert run(main()) == 7


@pytest.mark.skipif(sys.platform == "win32", reason="a signal of POSIX systems")
def test_the_ends_of_processes_are_told_where_a_starter_ignores_them() -> None:
    async def main() -> int | None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "raise SystemExit(7)"
        )
        return await process.wait()

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run(main()) == 7
    finally:
        signal.signal(signal.SIGCHLD, before)
