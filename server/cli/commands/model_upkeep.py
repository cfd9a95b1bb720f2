"""`deviceops models search`, `default`, `refresh`, `watch`, `update` and `delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import leave, reported

if TYPE_CHECKING:
    from deviceops.v1 import model_pb2

ModelId = Annotated[str, typer.Argument(help="Model id.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `deviceops models`."""
    for command in (search, default, refresh, watch, update, delete):
        app.command(command.__name__)(command)


@reported
def search(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(help="All of them, or the first digits of a hash.")
    ],
    tag: Annotated[list[str] | None, typer.Option(help="Repeatable: all of them.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find models by name, tag, trigger word, type, description or hash, best first."""
    from deviceops.v1 import model_info_pb2, model_pb2
    from server.cli.output import table
    from server.cli.views import write_message
    from server.cli.wording import enum_word

    request = model_pb2.SearchModelsRequest(query=" ".join(words), tags=tag or ())
    with connected(context) as client:
        found = client.ask(client.models.SearchModels, request)
    if as_json:
        write_message(found)
        return
    table(
        ("model", "name", "type", "tags", "score"),
        (
            (
                match.model.model_id,
                match.model.name,
                enum_word(model_info_pb2.ModelType, match.model.type, "MODEL_TYPE_"),
                ", ".join(match.model.tags),
                f"{match.score:.2f}",
            )
            for match in found.matches
        ),
    )


@reported
def default(
    context: typer.Context,
    model_id: Annotated[str, typer.Argument(help="Make this one the default.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show or choose the model that requests use which name none."""
    from deviceops.v1 import model_pb2
    from server.cli.views import write_message

    answer: model_pb2.SetDefaultModelResponse | model_pb2.GetModelResponse
    with connected(context) as client:
        if model_id:
            chosen = model_pb2.SetDefaultModelRequest(model_id=model_id)
            answer = client.ask(client.models.SetDefaultModel, chosen)
        else:
            answer = client.ask(client.models.GetModel, model_pb2.GetModelRequest())
    if as_json:
        write_message(answer)
    else:
        typer.echo(answer.model.model_id)


@reported
def refresh(
    context: typer.Context,
    full: Annotated[bool, typer.Option("--full", help="Unchanged files too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look through the model folders now; say what came, changed and went."""
    from deviceops.v1 import model_pb2
    from server.cli import device_tasks

    request = model_pb2.RefreshModelsRequest(full=full)
    with connected(context) as client:
        leave(device_tasks.refresh(client, request, as_json=as_json))


@reported
def watch(
    context: typer.Context,
    model_id: Annotated[str, typer.Argument(help="Only this model.")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell what happens to models until Ctrl-C: a line for each thing."""
    from deviceops.v1 import model_pb2
    from server.cli import model_watch

    request = model_pb2.WatchModelsRequest(model_id=model_id)
    with connected(context) as client:
        model_watch.run(client, request, as_json=as_json)


@reported
def update(
    context: typer.Context,
    model_id: ModelId,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    description: Annotated[str | None, typer.Option(help="At most 1024 characters.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    trigger_word: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is said of a model; "" has its own files say it again."""
    from deviceops.v1 import model_pb2
    from server.cli.views import write_message

    request = model_pb2.UpdateModelRequest()
    request.model.model_id = model_id
    for field, text in (("name", name), ("description", description)):
        if text is not None:
            setattr(request.model, field, text)
            request.update_fields.paths.append(field)
    for field, words in (("tags", tag), ("trigger_words", trigger_word)):
        if words is not None:
            getattr(request.model, field).extend(word for word in words if word)
            request.update_fields.paths.append(field)
    with connected(context) as client:
        answer = client.ask(client.models.UpdateModel, request)
    if as_json:
        write_message(answer)
    else:
        typer.echo(f"{answer.model.model_id}: {', '.join(request.update_fields.paths)} changed")


@reported
def delete(
    context: typer.Context,
    model_id: ModelId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    sha256: Annotated[str, typer.Option(help="Only the model of this hash.")] = "",
    as_json: AsJson = False,
) -> None:
    """Delete a model from memory and disk."""
    from deviceops.v1 import model_pb2
    from server.cli.views import write_message
    from server.cli.wording import size

    if not yes:
        typer.confirm(f"Delete {model_id} from disk?", abort=True)
    request = model_pb2.DeleteModelRequest(model_id=model_id, expected_sha256=sha256)
    with connected(context) as client:
        answer = client.ask(client.models.DeleteModel, request)
    if as_json:
        write_message(answer)
    else:
        typer.echo(f"{model_id} is deleted: {size(answer.freed_bytes)} freed")
