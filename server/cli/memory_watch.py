"""Memory live: bars in a terminal, elsewhere a line for each reading."""

from __future__ import annotations

from typing import Any

from deviceops.v1 import memory_pb2
from server.cli.client import Client
from server.cli.endless import draws, until_interrupt
from server.cli.memory_bars import bars, drawn
from server.cli.output import plain
from server.cli.views import message_facts, write_json
from server.cli.wording import enum_word


def run(client: Client, device: str, *, as_json: bool) -> None:
    """Show memory every second, and pressure when it changes, until Ctrl-C.

    Raises:
        CallFailed: There is no such device, the connection was lost, or the server ends.
    """
    call = client.memory.WatchMemory(memory_pb2.WatchMemoryRequest(device_id=device))
    with until_interrupt(client, call):
        if as_json:
            for answer in call:
                write_json(message_facts(answer))
        elif draws():
            _bars(call)
        else:
            _lines(call)


def _lines(call: Any) -> None:
    pressures: dict[str, memory_pb2.MemoryPressure] = {}
    for answer in call:
        if answer.WhichOneof("content") == "pressure":
            one = answer.pressure
            pressures[one.place.device_id] = one
            level = enum_word(memory_pb2.PressureLevel, one.level, "PRESSURE_LEVEL_")
            place = one.place.device_id or "main memory"
            plain([place, f"pressure {level}", f"{one.used_share:.0%} used"])
        elif answer.WhichOneof("content") == "status":
            for bar in bars(answer.status, pressures.values()):
                plain(bar.row())


def _bars(call: Any) -> None:
    from rich.console import Console
    from rich.live import Live

    pressures: dict[str, memory_pb2.MemoryPressure] = {}
    status = memory_pb2.MemoryStatus()
    with Live(console=Console(highlight=False), auto_refresh=False, screen=False) as live:
        for answer in call:
            if answer.WhichOneof("content") == "pressure":
                pressures[answer.pressure.place.device_id] = answer.pressure
            elif answer.WhichOneof("content") == "status":
                status = answer.status
            if status.HasField("host"):
                live.update(drawn(bars(status, pressures.values())), refresh=True)
