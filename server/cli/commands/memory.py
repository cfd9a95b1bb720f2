"""`deviceops memory`: bars, watch, list, free."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import reported

if TYPE_CHECKING:
    from deviceops.v1 import memory_info_pb2

app = typer.Typer(help="Show how full main memory and devices are, and who is lent what.")


@app.callback(invoke_without_command=True)
@reported
def memory(
    context: typer.Context,
    device: Annotated[str, typer.Option(help="Only this device, besides main memory.")] = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until Ctrl-C: bars, or a line per reading.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show main memory and every device: used by this server, by others, free, pressure.

    `?` is what nobody tells.
    """
    if context.invoked_subcommand is not None:
        return
    from deviceops.v1 import memory_pb2
    from server.cli import memory_bars, memory_watch
    from server.cli.output import table, write
    from server.cli.views import message_facts, write_facts

    with connected(context) as client:
        if watch:
            memory_watch.run(client, device, as_json=as_json)
            return
        status = client.ask(
            client.memory.GetMemoryStatus,
            memory_pb2.GetMemoryStatusRequest(device_id=device),
        )
        pressure = client.ask(
            client.memory.GetMemoryPressure,
            memory_pb2.GetMemoryPressureRequest(device_id=device),
        )
    if as_json:
        write_facts(message_facts(status) | message_facts(pressure))
        return
    found = memory_bars.bars(status.status, pressure.pressures)
    if sys.stdout.isatty():
        write(memory_bars.drawn(found))
    else:
        table(memory_bars.HEADINGS, (one.row() for one in found))


@app.command("list")
@reported
def list_(
    context: typer.Context,
    owner: Annotated[
        str,
        typer.Option(metavar="NAME", help="Only this client's; by default all you may see."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List allocations, and how the ledger compares with the allocators."""
    from deviceops.v1 import memory_pb2
    from server.cli.output import table
    from server.cli.views import write_message
    from server.cli.wording import byte_figure, moment, size

    listed = memory_pb2.ListAllocationsResponse()
    with connected(context) as client:
        request = memory_pb2.ListAllocationsRequest(owner=owner)
        for page in client.pages(client.memory.ListAllocations, request):
            listed.allocations.extend(page.allocations)
            if not listed.reconciliations:
                listed.reconciliations.extend(page.reconciliations)
    if as_json:
        write_message(listed)
        return
    table(
        ("allocation", "owner", "label", "place", "size", "until"),
        (
            (
                one.allocation_id,
                one.owner,
                one.label,
                _place(one.place),
                size(one.size_bytes),
                moment(one.lease_expire_time),
            )
            for one in listed.allocations
        ),
    )
    for one in listed.reconciliations:
        lent, held = size(one.ledger_bytes), byte_figure(one.allocator)
        typer.echo(f"{_place(one.place)}: {lent} lent to everybody, {held} taken", err=True)


@app.command("free")
@reported
def free(
    context: typer.Context,
    allocation_id: Annotated[str, typer.Argument(metavar="ALLOCATION")],
    as_json: AsJson = False,
) -> None:
    """Give an allocation's memory back before its lease ends."""
    from deviceops.v1 import memory_pb2
    from server.cli.views import write_message
    from server.cli.wording import size

    request = memory_pb2.DeleteAllocationRequest(allocation_id=allocation_id)
    with connected(context) as client:
        done = client.ask(client.memory.DeleteAllocation, request)
    if as_json:
        write_message(done)
    else:
        typer.echo(f"{size(done.freed_bytes)} given back.")


def _place(place: memory_info_pb2.MemoryPlace) -> str:
    pinned = "pinned " if place.host.pinned else ""
    return place.device_id or f"{pinned}main memory"
