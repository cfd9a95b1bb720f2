"""The commands about memory, against a scripted server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceops.v1 import common_pb2, memory_info_pb2, memory_pb2
from server.cli import memory_watch
from server.cli.memory_bars import Bar
from tests.server.cli.conftest import Run
from tests.server.cli.scripted import ScriptedServer

GIB = 1 << 30


def figure(value: int) -> common_pb2.ByteFigure:
    return common_pb2.ByteFigure(
        value_bytes=value, quality=common_pb2.FIGURE_QUALITY_MEASURED, source="a script"
    )


def pressure(device_id: str, level: Any, share: float) -> memory_pb2.MemoryPressure:
    place = memory_info_pb2.MemoryPlace(host=memory_info_pb2.HostMemory())
    if device_id:
        place = memory_info_pb2.MemoryPlace(device_id=device_id)
    return memory_pb2.MemoryPressure(place=place, level=level, used_share=share)


@pytest.fixture
def machine(scripted: ScriptedServer) -> ScriptedServer:
    """32 GiB of main memory and a card that tells only some of its figures."""
    host = memory_pb2.HostMemoryStatus(
        total=figure(32 * GIB), available=figure(20 * GIB), used_by_server=figure(4 * GIB)
    )
    status = scripted.memory_status
    status.host.CopyFrom(host)
    card = status.devices.add(device_id="cuda:0", total=figure(24 * GIB))
    card.allocated.CopyFrom(figure(6 * GIB))
    scripted.pressures = [pressure("", 1, 0.375), pressure("cuda:0", 3, 0.92)]
    return scripted


def rows(output: str) -> list[list[str]]:
    return [line.split("\t") for line in output.splitlines()]


def test_memory_is_one_row_for_each_place(against: Run, machine: ScriptedServer) -> None:
    done = against("memory", "--device", "gpu")

    assert rows(done.stdout) == [
        ["place", "ours", "others", "free", "total", "pressure"],
        ["main memory", "4.0 GiB", "8.0 GiB", "20.0 GiB", "32.0 GiB", "normal"],
        ["cuda:0", "6.0 GiB", "?", "?", "24.0 GiB", "high"],
    ]
    (asked,) = machine.of_type(memory_pb2.GetMemoryStatusRequest)
    assert asked.device_id == "gpu"


def test_memory_in_json_is_the_contracts_own_form(
    against: Run, machine: ScriptedServer
) -> None:
    said = json.loads(against("memory", "--json").stdout)

    assert said["status"]["host"]["available"]["value_bytes"] == str(20 * GIB)
    assert said["pressures"][1]["level"] == "PRESSURE_LEVEL_HIGH"


def test_watching_is_a_line_for_each_reading(against: Run, machine: ScriptedServer) -> None:
    machine.memory_readings = [
        memory_pb2.WatchMemoryResponse(pressure=pressure("", 2, 0.81)),
        memory_pb2.WatchMemoryResponse(heartbeat=memory_pb2.MemoryHeartbeat()),
        memory_pb2.WatchMemoryResponse(status=machine.memory_status),
    ]

    done = against("memory", "--watch")

    assert rows(done.stdout) == [
        ["main memory", "pressure elevated", "81% used"],
        ["main memory", "4.0 GiB", "8.0 GiB", "20.0 GiB", "32.0 GiB", "elevated"],
        ["cuda:0", "6.0 GiB", "?", "?", "24.0 GiB", "?"],
    ]
    assert "SHUTTING_DOWN" in done.stderr
    assert done.exit_code == 3


def test_watching_in_json_is_one_reading_a_line(against: Run, machine: ScriptedServer) -> None:
    machine.memory_readings = [memory_pb2.WatchMemoryResponse(status=machine.memory_status)]

    first, failure = map(json.loads, against("memory", "--watch", "--json").stdout.splitlines())

    assert first["status"]["devices"][0]["device_id"] == "cuda:0"
    assert failure["reason"] == "SHUTTING_DOWN"


def test_in_a_terminal_watching_draws_bars(
    against: Run, machine: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(memory_watch, "draws", lambda: True)
    machine.memory_readings = [
        memory_pb2.WatchMemoryResponse(pressure=pressure("cuda:0", 4, 0.99)),
        memory_pb2.WatchMemoryResponse(status=machine.memory_status),
    ]

    done = against("memory", "--watch")

    assert "█" * 5 + "▒" * 10 + "·" * 25 in done.stdout  # of 40: 4, 8 and 20 of 32 GiB
    assert "critical" in done.stdout


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.none() | st.integers(0, 10**12))
def test_a_bar_is_always_as_wide_as_it_should_be(
    ours: int, others: int, total: int | None
) -> None:
    parts = Bar("x", ours, others, None, total).parts(40)

    assert sum(parts) == 40
    assert min(parts) >= 0


def test_list_tells_who_holds_what_and_how_the_books_compare(
    against: Run, machine: ScriptedServer
) -> None:
    place = memory_info_pb2.MemoryPlace(host=memory_info_pb2.HostMemory(pinned=True))
    listed = machine.allocations
    listed.allocations.add(
        allocation_id="a1", owner="ann", label="lat\x1b[2Jents", place=place, size_bytes=GIB
    )
    listed.reconciliations.add(place=place, ledger_bytes=GIB, allocator=figure(2 * GIB))

    done = against("memory", "list", "--owner", "ann")

    (row,) = rows(done.stdout)[1:]
    assert row[:5] == ["a1", "ann", "lat[2Jents", "pinned main memory", "1.0 GiB"]
    assert "pinned main memory: 1.0 GiB lent to everybody, 2.0 GiB taken" in done.stderr
    assert machine.requests == [memory_pb2.ListAllocationsRequest(owner="ann")]
    assert json.loads(against("memory", "list", "--json").stdout)["allocations"]


def test_free_gives_back_and_says_when_there_is_nothing(
    against: Run, machine: ScriptedServer
) -> None:
    machine.allocations.allocations.add(allocation_id="a1", size_bytes=GIB)

    done = against("memory", "free", "a1")
    gone = against("memory", "free", "a2")

    assert "1.0 GiB given back." in done.stdout
    assert json.loads(against("memory", "free", "a1", "--json").stdout) == {
        "freed_bytes": str(GIB)
    }
    assert gone.exit_code == 4
    assert "It is gone." in gone.stderr
