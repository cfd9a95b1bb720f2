"""`deviceops models cache`: status, add, evict, budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import leave, reported

if TYPE_CHECKING:
    from deviceops.v1 import model_cache_pb2

app = typer.Typer(
    help="Show and change which models are kept in main memory.", no_args_is_help=True
)

ModelId = Annotated[str, typer.Argument(metavar="MODEL")]


@app.command("status")
@reported
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show what is kept, next to go last, and how well that works."""
    from deviceops.v1 import model_cache_pb2

    with connected(context) as client:
        request = model_cache_pb2.GetCacheStatusRequest()
        found = client.ask(client.models.GetCacheStatus, request)
    _show(found, as_json=as_json)


@app.command("add")
@reported
def add(
    context: typer.Context,
    model_id: ModelId,
    pin: Annotated[
        bool, typer.Option("--pin", help="Keep it until it is evicted, whatever the pressure.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read a model into main memory; one that is there already is pinned or unpinned."""
    from deviceops.v1 import model_cache_pb2
    from server.cli import device_tasks

    request = model_cache_pb2.CacheModelRequest(model_id=model_id, pinned=pin)
    with connected(context) as client:
        leave(device_tasks.cache(client, request, as_json=as_json))


@app.command("evict")
@reported
def evict(context: typer.Context, model_id: ModelId, as_json: AsJson = False) -> None:
    """Drop a model from main memory; it stays on disk."""
    from deviceops.v1 import model_cache_pb2
    from server.cli.views import write_message
    from server.cli.wording import size

    with connected(context) as client:
        request = model_cache_pb2.EvictModelRequest(model_id=model_id)
        done = client.ask(client.models.EvictModel, request)
    if as_json:
        write_message(done)
    elif done.freed_bytes:
        typer.echo(f"{size(done.freed_bytes)} freed.")
    else:
        typer.echo("It was not in main memory.")


@app.command("budget")
@reported
def budget(
    context: typer.Context,
    size: Annotated[
        str,
        typer.Argument(metavar="SIZE", help="16GiB, 0 for nothing, or `server` for its own."),
    ],
    as_json: AsJson = False,
) -> None:
    """Change how much main memory models may take, now and after restarts."""
    from deviceops.v1 import model_cache_pb2
    from server.cli.choices import bytes_of

    request = model_cache_pb2.SetCacheBudgetRequest()
    if size != "server":
        request.budget_bytes = bytes_of(size)
    with connected(context) as client:
        done = client.ask(client.models.SetCacheBudget, request)
    _show(done.cache, as_json=as_json)


def _show(found: model_cache_pb2.GetCacheStatusResponse, *, as_json: bool) -> None:
    from server.cli.output import table
    from server.cli.views import write_message
    from server.cli.wording import moment, printable, size

    if as_json:
        write_message(found)
        return
    table(
        ("model", "size", "last used", "loads from here", "pinned"),
        (
            (
                entry.model_id,
                size(entry.size_bytes),
                moment(entry.last_use_time),
                str(entry.hit_count),
                "yes" if entry.pinned else "",
            )
            for entry in found.entries
        ),
    )
    typer.echo(
        f"{size(found.used_bytes)} of {size(found.budget_bytes)} used; {found.hit_count} loads"
        f" from here, {found.miss_count} from disk, {found.eviction_count} went for others.",
        err=True,
    )
    if found.remark:
        typer.echo(printable(found.remark), err=True)
