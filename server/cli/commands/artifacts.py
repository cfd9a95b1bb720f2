"""`deviceops artifacts`: list, show, get, thumbnail, keep, label, delete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.listing import ListingGroup
from server.cli.reporting import reported

app = typer.Typer(cls=ListingGroup, help="List what the server keeps, fetch or delete it.")

ArtifactId = Annotated[str, typer.Argument(metavar="SHA256")]


@app.callback(invoke_without_command=True)
@reported
def artifacts(
    context: typer.Context,
    session: Annotated[
        str, typer.Option(metavar="SESSION", help="Only those that this session made.")
    ] = "",
    owner: Annotated[str, typer.Option(metavar="NAME", help="Only this client's.")] = "",
    media_type: Annotated[
        str, typer.Option("--type", metavar="PREFIX", help="Only media types so: image/")
    ] = "",
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="Repeatable: all of them."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most to show.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List pictures and other bytes that the server keeps, newest first."""
    if context.invoked_subcommand is not None:
        return
    from deviceops.v1 import artifact_pb2
    from server.cli.labels import labels_in
    from server.cli.output import table
    from server.cli.views import write_message
    from server.cli.wording import moment, size

    request = artifact_pb2.ListArtifactsRequest(
        session_id=session,
        owner=owner,
        media_type_prefix=media_type,
        labels=labels_in(label or ()),
    )
    found = artifact_pb2.ListArtifactsResponse()
    with connected(context) as client:
        for page in client.pages(client.artifacts.ListArtifacts, request, "artifacts", limit):
            found.artifacts.extend(page.artifacts)
            found.next_page_token = page.next_page_token
    if as_json:
        write_message(found)
        return
    table(
        ("artifact", "type", "size", "pixels", "session", "owner", "kept until"),
        (
            (
                one.artifact_id,
                one.media_type,
                size(one.size_bytes),
                f"{one.width}x{one.height}" if one.width else "",
                one.session_id,
                one.owner,
                "deleted" if one.pinned else moment(one.expire_time),
            )
            for one in found.artifacts
        ),
    )
    if found.next_page_token:
        typer.echo(f"There are more than {limit}; see --limit.", err=True)


@app.command("show")
@reported
def show(context: typer.Context, artifact_id: ArtifactId, as_json: AsJson = False) -> None:
    """Show one artifact without its bytes."""
    from deviceops.v1 import artifact_pb2
    from server.cli.labels import labels_as_text
    from server.cli.output import details
    from server.cli.views import write_message
    from server.cli.wording import moment, size

    request = artifact_pb2.GetArtifactRequest(artifact_id=artifact_id)
    with connected(context) as client:
        found = client.ask(client.artifacts.GetArtifact, request)
    if as_json:
        write_message(found)
        return
    one = found.artifact
    details(
        (
            ("artifact", one.artifact_id),
            ("type", one.media_type),
            ("size", size(one.size_bytes)),
            ("pixels", f"{one.width}x{one.height}" if one.width else ""),
            ("session", one.session_id),
            ("owner", one.owner),
            ("labels", labels_as_text(one.labels)),
            ("stored", moment(one.create_time)),
            ("kept until", "deleted" if one.pinned else moment(one.expire_time)),
        )
    )


@app.command("get")
@reported
def get(
    context: typer.Context,
    artifact_id: ArtifactId,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Save one artifact, after checking it against its id.

    A lost connection is made again and goes on where it was.
    """
    from server.cli.download import download
    from server.cli.views import write_json

    with connected(context) as client:
        path, size_bytes = download(client, artifact_id, output, replace=overwrite)
    if as_json:
        facts = {"artifact_id": artifact_id, "path": str(path), "size_bytes": size_bytes}
        write_json({"type": "saved", **facts})
    else:
        typer.echo(str(path))


@app.command("thumbnail")
@reported
def thumbnail(
    context: typer.Context,
    artifact_id: ArtifactId,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE")],
    edge: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Its longer edge: 256.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Save a small picture of an artifact that is a picture, as WebP."""
    from deviceops.v1 import artifact_pb2
    from server.cli.choices import UnusableOptions
    from server.cli.files import new_file
    from server.cli.views import write_json

    request = artifact_pb2.GetThumbnailRequest(artifact_id=artifact_id, edge_pixels=edge)
    with connected(context) as client:
        small = client.ask(client.artifacts.GetThumbnail, request)
    try:
        with new_file(output, replace=overwrite) as made:
            made.file.write(small.data)
    except OSError as error:
        raise UnusableOptions(f"{output} cannot be written: {error.strerror}") from error
    if as_json:
        facts = {"path": str(made.path), "width": small.width, "height": small.height}
        write_json({"type": "saved", "artifact_id": artifact_id, **facts})
    else:
        typer.echo(str(made.path))


@app.command("keep")
@reported
def keep(
    context: typer.Context,
    artifact_id: ArtifactId,
    pinned: Annotated[
        bool | None,
        typer.Option("--pin/--no-pin", help="Until it is deleted, or no longer so."),
    ] = None,
    retention: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long after its last use, from now: 2h, 7d."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change how long an artifact is kept; what is not named stays."""
    from deviceops.v1 import artifact_pb2
    from server.cli.choices import UnusableOptions, duration_in
    from server.cli.views import write_message
    from server.cli.wording import moment

    if pinned is None and retention is None:
        raise UnusableOptions("Say what changes: --pin, --no-pin, --retention")
    kept = duration_in("--retention", retention) if retention is not None else None
    request = artifact_pb2.UpdateArtifactRequest(
        artifact_id=artifact_id, pinned=pinned, retention=kept
    )
    with connected(context) as client:
        answer = client.ask(client.artifacts.UpdateArtifact, request)
    if as_json:
        write_message(answer)
    else:
        one = answer.artifact
        until = "it is deleted" if one.pinned else moment(one.expire_time) or "it is deleted"
        typer.echo(f"Kept until {until}.")


@app.command("label")
@reported
def label(
    context: typer.Context,
    artifact_id: ArtifactId,
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Labels to set.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="NAME", help="Repeatable: a label to remove."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set labels of an artifact, or remove them; the others stay."""
    from deviceops.v1 import artifact_pb2
    from server.cli.choices import UnusableOptions
    from server.cli.labels import labels_as_text, labels_in
    from server.cli.views import write_message

    if not labels and not remove:
        raise UnusableOptions("Say what changes: NAME=VALUE, --remove NAME")
    request = artifact_pb2.UpdateArtifactRequest(
        artifact_id=artifact_id, labels=labels_in(labels or ()), removed_labels=remove or ()
    )
    with connected(context) as client:
        answer = client.ask(client.artifacts.UpdateArtifact, request)
    if as_json:
        write_message(answer)
    else:
        typer.echo(labels_as_text(answer.artifact.labels) or "It has no labels.")


@app.command("delete")
@reported
def delete(context: typer.Context, artifact_id: ArtifactId, as_json: AsJson = False) -> None:
    """Delete one artifact now; sessions that made it keep their record of it."""
    from deviceops.v1 import artifact_pb2
    from server.cli.views import write_message

    request = artifact_pb2.DeleteArtifactRequest(artifact_id=artifact_id)
    with connected(context) as client:
        done = client.ask(client.artifacts.DeleteArtifact, request)
    if as_json:
        write_message(done)
    else:
        typer.echo("Deleted.")
