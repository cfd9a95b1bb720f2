"""`deviceops sessions`: list, show, watch, queue."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands import session_control
from server.cli.commands.options import AsJson, connected
from server.cli.commands.session_options import (
    OnDevice,
    OwnedBy,
    SessionId,
    Tags,
    WithKind,
    WithModel,
    WithPriority,
    WithState,
)
from server.cli.listing import ListingGroup
from server.cli.reporting import leave, reported

app = typer.Typer(cls=ListingGroup, help="List sessions, show, watch or control them.")


@app.callback(invoke_without_command=True)
@reported
def sessions(
    context: typer.Context,
    state: WithState = None,
    kind: WithKind = None,
    owner: OwnedBy = "",
    device: OnDevice = "",
    model: WithModel = "",
    tag: Tags = None,
    priority: WithPriority = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most to show.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List sessions, newest first: your own, and everybody's for those who may see them."""
    if context.invoked_subcommand is not None:
        return
    from deviceops.v1 import processing_pb2
    from server.cli import session_rows
    from server.cli.output import table
    from server.cli.session_filter import SessionWords, session_filter
    from server.cli.views import write_message

    words = SessionWords(state or (), kind or (), owner, device, model, tag or (), priority)
    request = processing_pb2.ListSessionsRequest(filter=session_filter(words))
    found = processing_pb2.ListSessionsResponse()
    with connected(context) as client:
        for page in client.pages(client.processing.ListSessions, request, "sessions", limit):
            found.sessions.extend(page.sessions)
            found.next_page_token = page.next_page_token
            found.total_count = page.total_count
            found.revision = found.revision or page.revision
    if as_json:
        write_message(found)
        return
    table(session_rows.HEADINGS, session_rows.rows(found.sessions))
    if found.next_page_token:
        typer.echo(f"There are more than {limit}; see --limit.", err=True)


@app.command("show")
@reported
def show(context: typer.Context, session_id: SessionId, as_json: AsJson = False) -> None:
    """Show one session and how it stands."""
    from deviceops.v1 import processing_pb2
    from server.cli import session_rows
    from server.cli.advice import advised
    from server.cli.failures import block, from_failure
    from server.cli.output import details
    from server.cli.views import write_message

    with connected(context) as client:
        found = client.ask(
            client.processing.GetSession,
            processing_pb2.GetSessionRequest(session_id=session_id),
        )
    if as_json:
        write_message(found)
        return
    details(session_rows.facts(found.session))
    if found.session.HasField("failure"):
        typer.echo(block(advised(from_failure(found.session.failure))))


@app.command("watch")
@reported
def watch(
    context: typer.Context,
    session_id: Annotated[
        str, typer.Argument(metavar="[SESSION]", help="By default all sessions are followed.")
    ] = "",
    first: Annotated[
        int,
        typer.Option(
            "--from",
            min=0,
            max=2**63 - 1,
            help="First event wanted; of all sessions, the revision after which.",
        ),
    ] = 0,
    state: WithState = None,
    kind: WithKind = None,
    owner: OwnedBy = "",
    device: OnDevice = "",
    model: WithModel = "",
    tag: Tags = None,
    priority: WithPriority = "",
    as_json: AsJson = False,
) -> None:
    """Show a session's events, live to its end; without SESSION, follow all that match.

    Ctrl-C ends the watching, not the session. The exit code tells how the session ended.
    """
    from server.cli import sessions_watch, watching
    from server.cli.session_filter import SessionWords, session_filter

    words = SessionWords(state or (), kind or (), owner, device, model, tag or (), priority)
    session_control.one_or_many(session_id, words)
    wanted = session_filter(words)
    with connected(context) as client:
        if session_id:
            leave(watching.run(client, session_id, first, as_json=as_json))
        else:
            sessions_watch.run(client, wanted, first, as_json=as_json)


@app.command("queue")
@reported
def queue(
    context: typer.Context,
    device: Annotated[
        str, typer.Argument(metavar="[DEVICE]", help="Id or alias; by default the default one.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what waits for a device, in the order in which it will be worked on."""
    from deviceops.v1 import processing_pb2
    from server.cli import session_rows
    from server.cli.output import table
    from server.cli.views import write_message

    found = processing_pb2.ListQueueResponse()
    with connected(context) as client:
        request = processing_pb2.ListQueueRequest(device_id=device)
        for page in client.pages(client.processing.ListQueue, request):
            found.sessions.extend(page.sessions)
            found.total_count = page.total_count
    if as_json:
        write_message(found)
        return
    table(session_rows.QUEUE_HEADINGS, session_rows.queue_rows(found.sessions))
    hidden = found.total_count - len(found.sessions)
    if hidden > 0:
        typer.echo(f"{hidden} more of other clients", err=True)


session_control.add_to(app)
