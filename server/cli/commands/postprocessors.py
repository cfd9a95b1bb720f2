"""`deviceops postprocessors`: what there is, how fast it is, what it came to."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands.options import AnyOf, AsJson, Devices, connected
from server.cli.reporting import leave, reported

app = typer.Typer(help="What finishes pictures: list, measure, count.", no_args_is_help=True)


@app.command("list")
@reported
def list_postprocessors(
    context: typer.Context,
    ready: Annotated[bool, typer.Option("--ready", help="Only what can be used now.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what can be applied to pictures, and what it took where it was measured."""
    from deviceops.v1 import postprocessing_pb2
    from server.cli import postprocessor_rows
    from server.cli.views import write_message

    request = postprocessing_pb2.ListPostprocessorsRequest(ready_only=ready)
    with connected(context) as client:
        found = client.ask(client.postprocessing.ListPostprocessors, request)
    if as_json:
        write_message(found)
    else:
        postprocessor_rows.show_list(found)


@app.command("bench")
@reported
def bench(
    context: typer.Context,
    postprocessor_id: Annotated[str, typer.Argument(help="Its id, as `list` shows it.")],
    device: Devices = None,
    any_of: AnyOf = "",
    pixels: Annotated[int | None, typer.Option(help="Edge of the square picture.")] = None,
    runs: Annotated[int | None, typer.Option(help="Measured runs.")] = None,
    image: Annotated[
        str,
        typer.Option(
            metavar="PICTURE", help="Work on this one: a file, artifact or SESSION#N."
        ),
    ] = "",
    reference: Annotated[
        str,
        typer.Option(
            metavar="PICTURE",
            help="What should come of it, as large as the result: tells PSNR and SSIM.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Measure how fast one is on a device, what memory it takes and how good its result is."""
    from deviceops.v1 import postprocessing_pb2
    from server.cli import device_tasks
    from server.cli.generation import picture_of
    from server.cli.placing import placement

    where = placement(device or (), any_of)
    with connected(context) as client:
        named = picture_of(client)
        request = postprocessing_pb2.BenchmarkPostprocessorRequest(
            postprocessor_id=postprocessor_id,
            placement=where,
            input_pixels=pixels,
            runs=runs,
            image=named(image) if image else None,
            reference=named(reference) if reference else None,
        )
        leave(device_tasks.benchmark_postprocessor(client, request, as_json=as_json))


@app.command("statistics")
@reported
def statistics(
    context: typer.Context,
    postprocessor_id: Annotated[str, typer.Argument(help="Only of this one.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show how many steps ended how, and how long they took; kept over restarts."""
    from deviceops.v1 import postprocessing_pb2
    from server.cli import postprocessor_rows
    from server.cli.views import write_message

    request = postprocessing_pb2.GetPostprocessingStatisticsRequest(
        postprocessor_id=postprocessor_id
    )
    with connected(context) as client:
        found = client.ask(client.postprocessing.GetPostprocessingStatistics, request)
    if as_json:
        write_message(found)
    else:
        postprocessor_rows.show_statistics(found)
