"""Somebody sets the machine's clock while a real server works."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deviceops.v1 import artifact_pb2, event_pb2, inference_pb2, processing_pb2
from tests.attack.test_machine_faults import READY, until_state
from tests.e2e.test_faults import until_step
from tests.running import small_request, start_server

HOUR, DAY = 3600, 86400
SOURCE = Path(__file__).with_name("clock_shift.c")


class ShiftedClock:
    """What the processes to come take for the wall clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        library = folder / "clock_shift.so"
        compiler = shutil.which("cc")
        assert compiler is not None
        command = [compiler, "-shared", "-fPIC", "-O1", str(SOURCE), "-o", str(library), "-ldl"]
        subprocess.run(command, check=True)
        self._file = folder / "shift"
        self.set(0)
        monkeypatch.setenv("LD_PRELOAD", str(library))
        monkeypatch.setenv("CLOCK_SHIFT", str(self._file))

    def set(self, seconds: int) -> None:
        """Be so many seconds ahead of the machine."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShiftedClock:
    return ShiftedClock(tmp_path, monkeypatch)


def request(request_id: str, steps: int, seed: int) -> inference_pb2.GenerateRequest:
    wanted = small_request(steps=steps, seed=seed)
    wanted.options.request_id = request_id
    return wanted


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
async def test_a_jump_ends_nothing_and_forgets_nothing(
    tmp_path: Path, clock: ShiftedClock
) -> None:
    with start_server(tmp_path / "data") as server:
        async with server.client() as client:
            first = "00000000-0000-4000-8000-000000000001"
            await until_state(client, READY)
            events, files = await client.draw(request(first, 2, 1))
            session_id = events[0].session_id
            running = client.generate(request("00000000-0000-4000-8000-000000000002", 40, 2))
            seen: list[event_pb2.SessionEvent] = []
            await until_step(running, seen)
            waiting = asyncio.create_task(
                client.draw(request("00000000-0000-4000-8000-000000000003", 2, 3))
            )
            for jump in (HOUR, 8 * DAY, -HOUR):
                clock.set(jump)
                await asyncio.sleep(1.2)  # two rounds of what expires sessions
            clock.set(8 * DAY)
            seen += [response.event async for response in running]
            assert seen[-1].HasField("completed")
            drawn, _ = await waiting
            assert drawn[-1].HasField("completed")
            # The wall clock is what people read.
            ahead = drawn[-1].event_time.ToDatetime(UTC) - datetime.now(UTC)
            assert timedelta(days=7.9) < ahead < timedelta(days=8.1)

            numbers = [event.sequence for event in seen]
            assert numbers == sorted(numbers)
            again, same = await client.draw(request(first, 2, 1))
            assert again[0].session_id == session_id
            assert same == files
            listed = await client.processing.ListSessions(
                processing_pb2.ListSessionsRequest(), metadata=client.metadata
            )
            assert len(listed.sessions) == 3
            kept = await client.artifact.ListArtifacts(
                artifact_pb2.ListArtifactsRequest(), metadata=client.metadata
            )
            assert len(kept.artifacts) == 3
