"""`deviceops models load`, `unload`, `status` and `bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.commands.options import AnyOf, AsJson, Devices, connected
from server.cli.reporting import leave, reported

if TYPE_CHECKING:
    from deviceops.v1 import common_pb2, model_pb2

ModelId = Annotated[str, typer.Argument(help="Model id; empty for the default one.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `deviceops models`."""
    app.command("load")(load)
    app.command("unload")(unload)
    app.command("status")(status)
    app.command("bench")(bench)


@reported
def load(
    context: typer.Context,
    model_id: ModelId = "",
    device: Devices = None,
    any_of: AnyOf = "",
    data_type: Annotated[
        list[str] | None,
        typer.Option(help="PART=TYPE, as vae=bfloat16 or denoiser=float16. Repeatable."),
    ] = None,
    warm_up: Annotated[
        bool, typer.Option("--warm-up", help="Draw a throw-away step with it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say whether it fits and what would go.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a model on a device, so that the first picture need not wait for it."""
    from deviceops.v1 import model_pb2
    from server.cli import device_tasks
    from server.cli.placing import placement

    request = model_pb2.LoadModelRequest(
        model_id=model_id,
        placement=placement(device or (), any_of),
        data_types=[_part(text) for text in data_type or ()],
        warm_up=warm_up,
        dry_run=dry_run,
    )
    with connected(context) as client:
        leave(device_tasks.load(client, request, as_json=as_json))


@reported
def unload(
    context: typer.Context,
    model_id: Annotated[str, typer.Argument(help="Model id.")],
    device: Devices = None,
    keep_cached: Annotated[
        bool, typer.Option("--keep-cached", help="Keep it in main memory.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take a model off its devices, after the work that uses it."""
    from deviceops.v1 import model_pb2
    from server.cli import device_tasks

    request = model_pb2.UnloadModelRequest(
        model_id=model_id, device_ids=device or (), keep_cached=keep_cached
    )
    with connected(context) as client:
        leave(device_tasks.unload(client, request, as_json=as_json))


@reported
def status(context: typer.Context, model_id: ModelId = "", as_json: AsJson = False) -> None:
    """Show where a model is, who uses it, and what it needs on each device."""
    from deviceops.v1 import model_pb2
    from server.cli.output import details, table
    from server.cli.views import write_message
    from server.cli.wording import byte_figure, moment, size

    with connected(context) as client:
        found = client.ask(
            client.models.GetModelStatus, model_pb2.GetModelStatusRequest(model_id=model_id)
        )
    if as_json:
        write_message(found)
        return
    on = ", ".join(
        f"{one.device_id} ({byte_figure(one.size)}, since {moment(one.load_time)}"
        + (f", used by {len(one.session_ids)})" if one.session_ids else ")")
        for one in found.loaded
    )
    cached = found.cached
    details(
        (
            ("model", found.model.model_id),
            ("on disk", size(found.model.size_bytes)),
            ("in main memory", size(cached.size_bytes) if found.HasField("cached") else "no"),
            ("on devices", on or "none"),
        )
    )
    table(("device", "weights", "with a picture", "fits", "step", "load"), _estimates(found))


@reported
def bench(
    context: typer.Context,
    model_id: Annotated[str, typer.Argument(help="Model id.")],
    device: Devices = None,
    any_of: AnyOf = "",
    width: Annotated[int | None, typer.Option(help="Pixels; native by default.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels; native by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Measured steps.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast a model is loaded and draws on a device."""
    from deviceops.v1 import model_task_pb2
    from server.cli import device_tasks
    from server.cli.placing import placement

    request = model_task_pb2.BenchmarkModelRequest(
        model_id=model_id,
        placement=placement(device or (), any_of),
        width=width,
        height=height,
        steps=steps,
    )
    with connected(context) as client:
        leave(device_tasks.benchmark(client, request, as_json=as_json))


def _estimates(found: model_pb2.GetModelStatusResponse) -> list[tuple[str, ...]]:
    from server.cli.wording import byte_figure, duration, seconds_of

    return [
        (
            one.device_id,
            byte_figure(one.weights),
            byte_figure(one.peak),
            "yes" if one.fits else "no",
            duration(seconds_of(one.step)) if one.HasField("step") else "",
            duration(seconds_of(one.load)) if one.HasField("load") else "",
        )
        for one in found.estimates
    ]


def _part(text: str) -> common_pb2.PartDataType:
    from deviceops.v1 import common_pb2
    from server.cli.choices import choose

    part, found, data_type = text.partition("=")
    if not found:
        raise typer.BadParameter(f"{text!r} is not PART=TYPE, as vae=bfloat16.")
    return common_pb2.PartDataType(
        part=choose(common_pb2.ModelPart, "MODEL_PART_", part),
        data_type=choose(common_pb2.TensorDataType, "TENSOR_DATA_TYPE_", data_type),
    )
