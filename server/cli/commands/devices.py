"""`deviceops devices`: list, watch, show, default, optimize, restart."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.listing import ListingGroup
from server.cli.reporting import leave, reported

app = typer.Typer(
    cls=ListingGroup, help="List this machine's devices, watch them, measure or change one."
)

SELF_TEST_TIMEOUT = 300.0  # seconds; a session's own default
DeviceId = Annotated[
    str, typer.Argument(metavar="DEVICE", help="Id or alias: cpu, cuda:0, gpu.")
]


@app.callback(invoke_without_command=True)
@reported
def devices(
    context: typer.Context,
    refresh: Annotated[bool, typer.Option("--refresh", help="Look again first.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until Ctrl-C: a table, or a line per event.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List this machine's devices, the default one first, and why others were not found.

    Figures of memory are measured; `~` marks estimates, `?` what nobody tells.
    """
    if context.invoked_subcommand is not None:
        return
    from deviceops.v1 import device_info_pb2
    from server.cli import device_rows, device_watch
    from server.cli.output import table
    from server.cli.views import message_facts, write_facts
    from server.cli.wording import enum_word, printable

    with connected(context) as client:
        if watch:
            if refresh:
                device_rows.ask(client, refresh=True)
            device_watch.run(client, as_json=as_json)
            return
        machine = device_rows.ask(client, refresh=refresh)
    if as_json:
        write_facts(
            message_facts(machine.found)
            | {
                "statuses": [message_facts(status) for status in machine.statuses],
                "memory": [message_facts(memory) for memory in machine.memory],
            }
        )
        return
    table(device_rows.HEADINGS, device_rows.rows(machine))
    for probe in machine.found.probes:
        if probe.explanation and not probe.device_count:
            kind = enum_word(device_info_pb2.DeviceKind, probe.kind, "DEVICE_KIND_")
            typer.echo(f"no {kind} device: {printable(probe.explanation)}", err=True)


@app.command("show")
@reported
def show(
    context: typer.Context,
    device: DeviceId = "",
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Measure again, which takes the device a while.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a device can do, as its self-test measured; without DEVICE, the default one."""
    from deviceops.v1 import device_pb2
    from server.cli.device_facts import show as write
    from server.cli.views import write_message

    with connected(context) as client:
        found = client.ask(
            client.devices.GetDeviceCapabilities,
            device_pb2.GetDeviceCapabilitiesRequest(device_id=device, refresh=refresh),
            timeout=SELF_TEST_TIMEOUT,
        )
    if as_json:
        write_message(found)
    else:
        write(found)


@app.command("default")
@reported
def default(context: typer.Context, device: DeviceId, as_json: AsJson = False) -> None:
    """Prefer a device where several would be done equally soon, from now on."""
    from deviceops.v1 import device_pb2
    from server.cli.views import write_message
    from server.cli.wording import printable

    with connected(context) as client:
        chosen = client.ask(
            client.devices.SetDefaultDevice,
            device_pb2.SetDefaultDeviceRequest(device_id=device),
        )
    if as_json:
        write_message(chosen)
    else:
        name = f"{chosen.device.device_id} ({chosen.device.name})"
        typer.echo(f"{printable(name)} is the default device now.")


@app.command("optimize")
@reported
def optimize(
    context: typer.Context,
    device: DeviceId = "",
    profile: Annotated[str, typer.Option(help="balanced, low-memory or fast")] = "balanced",
    model: Annotated[
        str, typer.Option(help="Measure with it; by default the loaded or default one.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Apply a profile and show its effect, measured on a real step before and after."""
    from deviceops.v1 import device_info_pb2, device_pb2
    from server.cli import device_tasks
    from server.cli.choices import choose

    chosen = choose(device_info_pb2.OptimizationProfile, "OPTIMIZATION_PROFILE_", profile)
    request = device_pb2.OptimizeDeviceRequest(device_id=device, profile=chosen, model_id=model)
    with connected(context) as client:
        leave(device_tasks.optimize(client, request, as_json=as_json))


@app.command("restart")
@reported
def restart(
    context: typer.Context,
    device: DeviceId = "",
    force: Annotated[
        bool, typer.Option("--force", help="At once: what runs fails with WORKER_LOST.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replace a device's worker after what runs on it; lifts a quarantine."""
    from deviceops.v1 import device_pb2
    from server.cli import device_tasks

    request = device_pb2.RestartWorkerRequest(device_id=device, force=force)
    with connected(context) as client:
        leave(device_tasks.restart(client, request, as_json=as_json))
