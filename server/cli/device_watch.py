"""Devices live: a table in a terminal, elsewhere a line for each thing that happens."""

from __future__ import annotations

import threading
from typing import Any

import grpc

from deviceops.v1 import device_info_pb2, device_pb2
from server.cli.client import Client
from server.cli.device_rows import HEADINGS, ask, rows
from server.cli.endless import draws, until_interrupt
from server.cli.output import drawn
from server.cli.views import message_facts, write_json
from server.cli.wording import enum_word, moment, printable

_REFRESH_SECONDS = 1.0


def run(client: Client, *, as_json: bool) -> None:
    """Show how devices are until Ctrl-C.

    Raises:
        CallFailed: The connection was lost, or the server ends.
    """
    call = client.devices.WatchDevices(device_pb2.WatchDevicesRequest())
    with until_interrupt(client, call):
        if draws() and not as_json:
            _table(client, call)
        else:
            _lines(call, as_json=as_json)


def _lines(call: Any, *, as_json: bool) -> None:
    for event in call:
        if as_json:
            write_json(message_facts(event))
        elif event.HasField("device"):  # heartbeats and the end of the state have none
            what = enum_word(device_pb2.DeviceEventKind, event.kind, "DEVICE_EVENT_KIND_")
            state = enum_word(device_info_pb2.DeviceState, event.device.state, "DEVICE_STATE_")
            device = event.device
            why = device.explanation or event.cause.message
            line = (moment(event.event_time), device.device_id, what, state, why)
            print("\t".join(map(printable, line)), flush=True)


def _table(client: Client, call: Any) -> None:
    """Drawn anew every second, and at once when something happens."""
    from rich.console import Console
    from rich.live import Live

    happened = threading.Event()
    ended: list[grpc.RpcError] = []

    def listen() -> None:
        try:
            for _ in call:
                happened.set()
        except grpc.RpcError as error:
            ended.append(error)
            happened.set()

    threading.Thread(target=listen, name="devices", daemon=True).start()
    with Live(console=Console(highlight=False), auto_refresh=False, screen=False) as live:
        while True:
            happened.clear()
            # Also when the server is about to end: how things are is what was asked for.
            live.update(drawn(HEADINGS, rows(ask(client))), refresh=True)
            if not ended:
                happened.wait(_REFRESH_SECONDS)
            if ended:
                raise ended[0]
