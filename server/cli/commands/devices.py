"""`deviceops devices`."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import reported


@reported
def devices(
    context: typer.Context,
    refresh: Annotated[bool, typer.Option("--refresh", help="Look again first.")] = False,
    as_json: AsJson = False,
) -> None:
    """List this machine's devices, the default one first, and why others were not found."""
    from deviceops.v1 import device_pb2
    from server.cli.output import table
    from server.cli.views import write_message
    from server.cli.wording import byte_figure, enum_word, printable

    with connected(context) as client:
        found = client.ask(
            client.devices.ListDevices, device_pb2.ListDevicesRequest(refresh=refresh)
        )
    if as_json:
        write_message(found)
        return
    table(
        ("device", "kind", "name", "state", "memory", "runtime", "remark"),
        (
            (
                device.device_id + (" *" if device.is_default else ""),
                enum_word(device_pb2.DeviceKind, device.kind, "DEVICE_KIND_"),
                device.name,
                enum_word(device_pb2.DeviceState, device.state, "DEVICE_STATE_"),
                byte_figure(device.total_memory),
                device.runtime_version,
                device.explanation,
            )
            for device in found.devices
        ),
    )
    for probe in found.probes:
        if probe.explanation and not probe.device_count:
            kind = enum_word(device_pb2.DeviceKind, probe.kind, "DEVICE_KIND_")
            typer.echo(f"no {kind} device: {printable(probe.explanation)}", err=True)
