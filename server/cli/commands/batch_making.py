"""`deviceops batch`: create, run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.commands.batch_options import Share
from server.cli.commands.options import AnyOf, AsJson, Devices, connected
from server.cli.reporting import leave, reported

if TYPE_CHECKING:
    from server.cli.durable_batches import BatchManner
    from server.cli.request import GenerationOptions

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Items: a .csv file, whose columns are fields as of --set, item_id and"
        " cleared_fields, or a .jsonl file.",
    ),
]
Prompt = Annotated[
    str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="Where no item says one.")
]
Negative = Annotated[
    str | None, typer.Option("--negative", "-n", metavar="TEXT", help="What to avoid.")
]
Model = Annotated[str | None, typer.Option("--model", "-m", metavar="ID", help="Model id.")]
Pixels = Annotated[int | None, typer.Option(metavar="N", help="Pixels; multiples of 8.")]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Denoising steps.")]
Seed = Annotated[
    int | None, typer.Option(metavar="N", help="Of every first picture; random without.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Any field of GenerationSettings by its path, for all items; repeatable.",
    ),
]
Parallel = Annotated[
    int | None,
    typer.Option(metavar="N", help="Most items at once; by default as many as devices."),
]
MaxFailures = Annotated[
    int | None, typer.Option(metavar="N", help="Cancel the rest once so many failed.")
]
Attempts = Annotated[int | None, typer.Option(metavar="N", help="How often to try each item.")]
Backoff = Annotated[
    str | None, typer.Option(metavar="TIME", help="Wait before the second try; doubles.")
]
ItemTimeout = Annotated[
    str | None, typer.Option(metavar="TIME", help="Longest run of one try of one item.")
]
RunTimeout = Annotated[
    str | None, typer.Option(metavar="TIME", help="Longest run of the whole batch.")
]
RequestId = Annotated[
    str | None,
    typer.Option(
        metavar="UUID", help="The same one never makes two batches. By default a fresh one."
    ),
]
PriorityName = Annotated[str | None, typer.Option("--priority", help="low, normal or high")]
TagNames = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="For finding the batch; repeatable."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to those of `deviceops batch`."""
    app.command("create")(create)
    app.command("run")(run)


@dataclass(frozen=True)
class _Said:
    """What both commands are told."""

    options: GenerationOptions
    manner: BatchManner


@reported
def create(
    context: typer.Context,
    file: File,
    prompt: Prompt = None,
    negative: Negative = None,
    model: Model = None,
    width: Pixels = None,
    height: Pixels = None,
    steps: Steps = None,
    seed: Seed = None,
    assignment: Assignments = None,
    device: Devices = None,
    any_of: AnyOf = "",
    parallel: Parallel = None,
    max_failures: MaxFailures = None,
    attempts: Attempts = None,
    backoff: Backoff = None,
    item_timeout: ItemTimeout = None,
    run_timeout: RunTimeout = None,
    share: Share = False,
    request_id: RequestId = None,
    priority: PriorityName = None,
    tag: TagNames = None,
    as_json: AsJson = False,
) -> None:
    """Start a durable batch of a file's items and print its id; the server works it off, also
    after a restart."""
    from server.cli import durable_batches
    from server.cli.views import write_message
    from server.cli.wording import printable

    said = _said(locals())
    with connected(context) as client:
        batch = durable_batches.create(client, file, said.options, said.manner)
    if as_json:
        write_message(batch)
    else:
        typer.echo(printable(batch.batch_id))


@reported
def run(
    context: typer.Context,
    file: File,
    prompt: Prompt = None,
    negative: Negative = None,
    model: Model = None,
    width: Pixels = None,
    height: Pixels = None,
    steps: Steps = None,
    seed: Seed = None,
    assignment: Assignments = None,
    device: Devices = None,
    any_of: AnyOf = "",
    parallel: Parallel = None,
    max_failures: MaxFailures = None,
    attempts: Attempts = None,
    backoff: Backoff = None,
    item_timeout: ItemTimeout = None,
    run_timeout: RunTimeout = None,
    share: Share = False,
    request_id: RequestId = None,
    priority: PriorityName = None,
    tag: TagNames = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="By default the folder out."),
    ] = None,
    no_data: Annotated[
        bool, typer.Option("--no-data", help="Leave the pictures with the server.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a durable batch of a file's items, follow it and save its pictures.

    Ctrl-C ends the watching, and the batch goes on. The exit code is 1 where an item failed.
    """
    from server.cli import durable_batches

    said = _said(locals())
    folder = durable_batches.folder_for(said.options, output, data=not no_data)
    with connected(context) as client:
        batch = durable_batches.create(client, file, said.options, said.manner)
        leave(durable_batches.follow(client, batch, folder, as_json=as_json))


def _said(told: dict[str, Any]) -> _Said:
    """What the options of both commands, by their names, say."""
    from server.cli.durable_batches import BatchManner
    from server.cli.request import GenerationOptions

    options = GenerationOptions(
        devices=tuple(told["device"] or ()),
        kinds=told["any_of"],
        tags=tuple(told["tag"] or ()),
        assignments=tuple(told["assignment"] or ()),
        **{
            name: told[name]
            for name in (
                *("prompt", "negative", "model", "width", "height", "steps", "seed"),
                *("run_timeout", "request_id", "priority"),
            )
        },
    )
    names = ("parallel", "max_failures", "attempts", "backoff", "item_timeout", "share")
    return _Said(options, BatchManner(**{name: told[name] for name in names}))
