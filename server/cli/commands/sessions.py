"""`deviceops sessions`: list, show, watch, cancel, pause, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import leave, reported

if TYPE_CHECKING:
    from deviceops.v1 import session_pb2

app = typer.Typer(help="List sessions, show, watch or control one.")

SessionId = Annotated[str, typer.Argument(metavar="SESSION")]


@app.callback(invoke_without_command=True)
@reported
def sessions(
    context: typer.Context,
    state: Annotated[
        list[str] | None, typer.Option(help="queued, running, completed, ...; repeatable.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="generation, model-load, ...")] = None,
    device: Annotated[str, typer.Option(help="Only on this device.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="Repeatable: all of them.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most to show.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List sessions, newest first."""
    if context.invoked_subcommand is not None:
        return
    from deviceops.v1 import processing_pb2, session_pb2
    from server.cli.choices import choose
    from server.cli.output import table
    from server.cli.views import write_message
    from server.cli.wording import enum_word, moment

    request = processing_pb2.ListSessionsRequest(
        device_id=device,
        tags=tag or (),
        page_size=limit,
        states=[choose(session_pb2.SessionState, "SESSION_STATE_", s) for s in state or ()],
    )
    if kind:
        request.kind = choose(session_pb2.SessionKind, "SESSION_KIND_", kind)
    found = processing_pb2.ListSessionsResponse()
    with connected(context) as client:
        for page in client.pages(client.processing.ListSessions, request):
            found.sessions.extend(page.sessions)
            found.next_page_token = page.next_page_token
            request.page_size = limit - len(found.sessions)
            if not request.page_size:
                break
    if as_json:
        write_message(found)
        return
    table(
        ("session", "kind", "state", "done", "device", "model", "begun"),
        (
            (
                session.session_id,
                enum_word(session_pb2.SessionKind, session.kind, "SESSION_KIND_"),
                enum_word(session_pb2.SessionState, session.state, "SESSION_STATE_"),
                f"{session.progress:.0%}",
                session.device_id,
                session.model_id,
                moment(session.create_time),
            )
            for session in found.sessions
        ),
    )
    if found.next_page_token:
        typer.echo(f"There are more than {limit}; see --limit.", err=True)


@app.command("show")
@reported
def show(context: typer.Context, session_id: SessionId, as_json: AsJson = False) -> None:
    """Show one session and how it stands."""
    from deviceops.v1 import processing_pb2
    from server.cli.views import write_message

    with connected(context) as client:
        found = client.ask(
            client.processing.GetSession,
            processing_pb2.GetSessionRequest(session_id=session_id),
        )
    if as_json:
        write_message(found)
        return
    _details(found.session)


@app.command("watch")
@reported
def watch(
    context: typer.Context,
    session_id: SessionId,
    first: Annotated[
        int, typer.Option("--from", min=0, max=2**64 - 1, help="First event wanted.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Show a session's events, live to its end. Ctrl-C ends the watching, not the session.

    The exit code tells how the session ended.
    """
    from server.cli.watching import run

    with connected(context) as client:
        leave(run(client, session_id, first, as_json=as_json))


@app.command("cancel")
@reported
def cancel(context: typer.Context, session_id: SessionId, as_json: AsJson = False) -> None:
    """Stop a session for good; one that has ended stays as it is."""
    _control(context, session_id, "CANCEL", as_json=as_json)


@app.command("pause")
@reported
def pause(context: typer.Context, session_id: SessionId, as_json: AsJson = False) -> None:
    """Stop a session after its current step, to be resumed."""
    _control(context, session_id, "PAUSE", as_json=as_json)


@app.command("resume")
@reported
def resume(context: typer.Context, session_id: SessionId, as_json: AsJson = False) -> None:
    """Let a paused session go on."""
    _control(context, session_id, "RESUME", as_json=as_json)


def _control(context: typer.Context, session_id: str, action: str, *, as_json: bool) -> None:
    from deviceops.v1 import processing_pb2, session_pb2
    from server.cli.choices import choose
    from server.cli.views import write_message
    from server.cli.wording import enum_word

    request = processing_pb2.ControlSessionRequest(
        session_id=session_id,
        action=choose(processing_pb2.ControlAction, "CONTROL_ACTION_", action),
    )
    with connected(context) as client:
        answer = client.ask(client.processing.ControlSession, request)
    if as_json:
        write_message(answer)
        return
    state = enum_word(session_pb2.SessionState, answer.session.state, "SESSION_STATE_")
    typer.echo(f"Session {session_id} is {state}.")


def _details(session: session_pb2.Session) -> None:
    from deviceops.v1 import session_pb2
    from server.cli.failures import block, from_failure
    from server.cli.narration import phase_words
    from server.cli.output import details
    from server.cli.wording import enum_word, moment

    details(
        [
            ("session", session.session_id),
            ("kind", enum_word(session_pb2.SessionKind, session.kind, "SESSION_KIND_")),
            ("state", enum_word(session_pb2.SessionState, session.state, "SESSION_STATE_")),
            ("phase", phase_words(session.phase) if session.phase else ""),
            ("done", f"{session.progress:.0%}"),
            ("queue position", str(session.queue_position or "")),
            ("device", session.device_id),
            ("model", session.model_id),
            ("tags", ", ".join(session.options.tags)),
            ("accepted", moment(session.create_time)),
            ("begun", moment(session.start_time)),
            ("ended", moment(session.end_time)),
            ("kept until", moment(session.expire_time)),
            ("events", f"{session.first_sequence} to {session.last_sequence}"),
            ("started over", str(session.retry_count or "")),
        ]
        + [
            (
                f"picture {image.image_index + 1}",
                f"{image.width}x{image.height}, seed {image.seed}, {image.artifact_id}",
            )
            for image in session.images
        ]
    )
    if session.HasField("failure"):
        typer.echo(block(from_failure(session.failure)))
