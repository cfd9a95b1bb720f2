"""`deviceops sessions`: pause, resume, cancel, update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

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
from server.cli.reporting import reported

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from deviceops.v1 import session_pb2
    from server.cli.session_filter import SessionWords

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Shown to who watches.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to those of `deviceops sessions`."""
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("cancel")(cancel)
    app.command("update")(update)


def one_or_many(session_id: str, words: SessionWords) -> None:
    """Raises UnusableOptions when both a session and a filter are named."""
    from server.cli.choices import UnusableOptions
    from server.cli.session_filter import SessionWords

    if session_id and words != SessionWords():
        raise UnusableOptions("Name a session or a filter, not both.")


@reported
def pause(
    context: typer.Context, session_id: SessionId, reason: Reason = "", as_json: AsJson = False
) -> None:
    """Stop a session after its current step, to be resumed."""
    from deviceops.v1 import processing_pb2

    request = processing_pb2.PauseSessionRequest(session_id=session_id, reason_text=reason)
    with connected(context) as client:
        answer = client.ask(client.processing.PauseSession, request)
    _tell(answer, answer.session, as_json=as_json)


@reported
def resume(context: typer.Context, session_id: SessionId, as_json: AsJson = False) -> None:
    """Let a paused session go on."""
    from deviceops.v1 import processing_pb2

    request = processing_pb2.ResumeSessionRequest(session_id=session_id)
    with connected(context) as client:
        answer = client.ask(client.processing.ResumeSession, request)
    _tell(answer, answer.session, as_json=as_json)


@reported
def cancel(
    context: typer.Context,
    session_id: Annotated[str, typer.Argument(metavar="[SESSION]")] = "",
    state: WithState = None,
    kind: WithKind = None,
    owner: OwnedBy = "",
    device: OnDevice = "",
    model: WithModel = "",
    tag: Tags = None,
    priority: WithPriority = "",
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Stop a session for good, or without SESSION all that match the options.

    One that has ended stays as it is.
    """
    from deviceops.v1 import processing_pb2
    from server.cli.choices import UnusableOptions
    from server.cli.session_filter import SessionWords, session_filter
    from server.cli.views import write_message

    words = SessionWords(state or (), kind or (), owner, device, model, tag or (), priority)
    one_or_many(session_id, words)
    if not session_id and words == SessionWords():
        raise UnusableOptions("Name a session, or which sessions: --tag, --state, ...")
    wanted = session_filter(words)
    with connected(context) as client:
        if session_id:
            one = processing_pb2.CancelSessionRequest(session_id=session_id, reason_text=reason)
            answer = client.ask(client.processing.CancelSession, one)
            _tell(answer, answer.session, as_json=as_json)
            return
        many = processing_pb2.CancelSessionsRequest(filter=wanted, reason_text=reason)
        done = client.ask(client.processing.CancelSessions, many)
    if as_json:
        write_message(done)
    else:
        noun = "session" if done.cancelled_count == 1 else "sessions"
        typer.echo(f"{done.cancelled_count} {noun} cancelled.")


@reported
def update(
    context: typer.Context,
    session_id: SessionId,
    priority: Annotated[
        str | None, typer.Option(help="low, normal or high: its place in the queue.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Its tags from now on; repeatable.")
    ] = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Take its tags away.")] = False,
    retention: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long it is kept once it is final: 2h, 7d."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a session's priority, tags or retention; what is not named stays."""
    from deviceops.v1 import processing_pb2, session_pb2
    from server.cli.choices import PRIORITIES, UnusableOptions, choose, duration_in

    if tag and no_tags:
        raise UnusableOptions("--tag and --no-tags exclude each other.")
    request = processing_pb2.UpdateSessionRequest(session_id=session_id)
    options, fields = request.options, request.update_fields.paths
    if priority is not None:
        options.priority = choose(session_pb2.Priority, "PRIORITY_", priority, PRIORITIES)
        fields.append("priority")
    if tag or no_tags:
        options.tags.extend(tag or ())
        fields.append("tags")
    if retention is not None:
        options.retention.CopyFrom(duration_in("--retention", retention))
        fields.append("retention")
    if not fields:
        raise UnusableOptions("Say what changes: --priority, --tag, --no-tags, --retention")
    with connected(context) as client:
        answer = client.ask(client.processing.UpdateSession, request)
    _tell(answer, answer.session, as_json=as_json)


def _tell(answer: Message, session: session_pb2.Session, *, as_json: bool) -> None:
    from server.cli.session_rows import state_word
    from server.cli.views import write_message
    from server.cli.wording import printable

    if as_json:
        write_message(answer)
    else:
        typer.echo(f"Session {printable(session.session_id)} is {state_word(session)}.")
