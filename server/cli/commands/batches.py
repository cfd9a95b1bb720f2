"""`deviceops batch`: list, show, watch, pause, resume, cancel, retry, delete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.commands import batch_making
from server.cli.commands.options import AsJson, connected
from server.cli.commands.session_control import Reason
from server.cli.commands.session_options import OwnedBy, Tags, WithState
from server.cli.listing import ListingGroup
from server.cli.reporting import leave, reported

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from deviceops.v1 import batch_pb2

BatchId = Annotated[str, typer.Argument(metavar="BATCH")]
_Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Most to show.")]

app = typer.Typer(
    cls=ListingGroup, help="Durable batches: make, list, show, watch or control them."
)


@app.callback(invoke_without_command=True)
@reported
def batches(
    context: typer.Context,
    state: WithState = None,
    owner: OwnedBy = "",
    tag: Tags = None,
    limit: _Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List batches, newest first: your own, and everybody's for those who may see them."""
    if context.invoked_subcommand is not None:
        return
    from deviceops.v1 import batch_pb2
    from server.cli import batch_rows
    from server.cli.output import table
    from server.cli.session_filter import SessionWords, session_filter
    from server.cli.views import write_message

    states = session_filter(SessionWords(state or ())).states
    request = batch_pb2.ListBatchesRequest(states=states, owner=owner, tags=tag or ())
    found = batch_pb2.ListBatchesResponse()
    with connected(context) as client:
        for page in client.pages(client.processing.ListBatches, request, "batches", limit):
            found.batches.extend(page.batches)
            found.next_page_token = page.next_page_token
    if as_json:
        write_message(found)
        return
    table(batch_rows.HEADINGS, batch_rows.rows(found.batches))
    if found.next_page_token:
        typer.echo(f"There are more than {limit}; see --limit.", err=True)


@app.command("show")
@reported
def show(
    context: typer.Context,
    batch_id: BatchId,
    state: WithState = None,
    limit: _Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Show a batch and its items, all or those in some states."""
    from deviceops.v1 import batch_pb2
    from server.cli import batch_rows
    from server.cli.output import details, table
    from server.cli.session_filter import SessionWords, session_filter
    from server.cli.views import write_message

    states = session_filter(SessionWords(state or ())).states
    request = batch_pb2.GetBatchRequest(batch_id=batch_id, item_states=states)
    found = batch_pb2.GetBatchResponse()
    with connected(context) as client:
        for page in client.pages(client.processing.GetBatch, request, "items", limit):
            found.batch.CopyFrom(page.batch)
            found.items.extend(page.items)
            found.next_page_token = page.next_page_token
    if as_json:
        write_message(found)
        return
    details(batch_rows.facts(found.batch))
    table(batch_rows.ITEM_HEADINGS, batch_rows.item_rows(found.items))
    if found.next_page_token:
        typer.echo(f"There are more than {limit}; see --limit.", err=True)


@app.command("watch")
@reported
def watch(
    context: typer.Context,
    batch_id: BatchId,
    first: Annotated[
        int, typer.Option("--from", min=0, max=2**63 - 1, help="First event wanted.")
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Save its pictures there."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what becomes of a batch, to its end. Ctrl-C ends the watching, not the batch."""
    from deviceops.v1 import batch_pb2
    from server.cli import durable_batches

    with connected(context) as client:
        request = batch_pb2.GetBatchRequest(batch_id=batch_id, page_size=1)
        batch = client.ask(client.processing.GetBatch, request).batch
        leave(durable_batches.follow(client, batch, output, first=first, as_json=as_json))


@app.command("pause")
@reported
def pause(
    context: typer.Context, batch_id: BatchId, reason: Reason = "", as_json: AsJson = False
) -> None:
    """Stop a batch after the steps of now, to be resumed."""
    from deviceops.v1 import batch_pb2

    request = batch_pb2.PauseBatchRequest(batch_id=batch_id, reason_text=reason)
    with connected(context) as client:
        answer = client.ask(client.processing.PauseBatch, request)
    _tell(answer, answer.batch, as_json=as_json)


@app.command("resume")
@reported
def resume(context: typer.Context, batch_id: BatchId, as_json: AsJson = False) -> None:
    """Let a paused batch go on."""
    from deviceops.v1 import batch_pb2

    with connected(context) as client:
        answer = client.ask(
            client.processing.ResumeBatch, batch_pb2.ResumeBatchRequest(batch_id=batch_id)
        )
    _tell(answer, answer.batch, as_json=as_json)


@app.command("cancel")
@reported
def cancel(
    context: typer.Context, batch_id: BatchId, reason: Reason = "", as_json: AsJson = False
) -> None:
    """Cancel what is left of a batch; what has ended stays."""
    from deviceops.v1 import batch_pb2

    request = batch_pb2.CancelBatchRequest(batch_id=batch_id, reason_text=reason)
    with connected(context) as client:
        answer = client.ask(client.processing.CancelBatch, request)
    _tell(answer, answer.batch, as_json=as_json)


@app.command("retry")
@reported
def retry(
    context: typer.Context,
    batch_id: BatchId,
    item: Annotated[
        list[str] | None,
        typer.Option("--item", metavar="ID", help="By default all that failed; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run items of a batch again that failed or were cancelled."""
    from deviceops.v1 import batch_pb2
    from server.cli.views import write_message

    request = batch_pb2.RetryBatchItemsRequest(batch_id=batch_id, item_ids=item or ())
    with connected(context) as client:
        answer = client.ask(client.processing.RetryBatchItems, request)
    if as_json:
        write_message(answer)
    else:
        noun = "item runs" if answer.retried_count == 1 else "items run"
        typer.echo(f"{answer.retried_count} {noun} again.")


@app.command("delete")
@reported
def delete(context: typer.Context, batch_id: BatchId) -> None:
    """Forget a batch that has ended; its pictures stay."""
    from deviceops.v1 import batch_pb2
    from server.cli.wording import printable

    with connected(context) as client:
        client.ask(
            client.processing.DeleteBatch, batch_pb2.DeleteBatchRequest(batch_id=batch_id)
        )
    typer.echo(f"Batch {printable(batch_id)} is forgotten.")


def _tell(answer: Message, batch: batch_pb2.Batch, *, as_json: bool) -> None:
    from server.cli.batch_rows import state_word
    from server.cli.views import write_message
    from server.cli.wording import printable

    if as_json:
        write_message(answer)
    else:
        typer.echo(f"Batch {printable(batch.batch_id)} is {state_word(batch.state)}.")


batch_making.add_to(app)
