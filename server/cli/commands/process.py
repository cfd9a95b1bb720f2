"""`deviceops process` and `deviceops upscale`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.cli.commands.options import AnyOf, AsJson, Devices, connected
from server.cli.reporting import leave, reported

_PICTURE = "A file, an artifact id, or SESSION#N."
Pictures = Annotated[list[str], typer.Argument(metavar="PICTURE...", help=_PICTURE)]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="PATH", help="Folder, or file; by default the folder out."
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="png, jpeg, webp or avif; by default as --output ends, or png."
    ),
]
Quality = Annotated[int | None, typer.Option(help="Of JPEG, AVIF and lossy WebP, 1 to 100.")]
Lossless = Annotated[bool, typer.Option("--lossless", help="WebP without loss.")]
KeepMetadata = Annotated[
    bool, typer.Option("--keep-metadata", help="Keep EXIF, XMP and texts of the source.")
]

PreviewEvery = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="A preview after so many steps or tiles, and before and after at the end; by"
        " default 1 where the terminal draws them, else 0 (none).",
    ),
]


@reported
def process(
    context: typer.Context,
    pictures: Pictures,
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step",
            "-s",
            metavar="NAME[:FIELD=VALUE,...]",
            help="upscale, face_restore, sharpen, denoise, deblur, color, lut, resize, crop,"
            " pad, rotate, remove_background, watermark or safety, with the fields of its"
            " message in the contract. Repeatable, done in this order.",
        ),
    ] = None,
    output: Output = None,
    format: Format = None,
    quality: Quality = None,
    lossless: Lossless = False,
    keep_metadata: KeepMetadata = False,
    preview_every: PreviewEvery = None,
    device: Devices = None,
    any_of: AnyOf = "",
    as_json: AsJson = False,
) -> None:
    """Finish pictures: enlarge, sharpen, crop and the like, step after step.

    Without a step a picture is only written anew, in another format.
    """
    from server.cli.placing import placement
    from server.cli.processing import Wanted
    from server.cli.processing import process as work

    where = placement(device or (), any_of)
    wanted = Wanted(
        tuple(step or ()), where, format, quality, lossless, keep_metadata, preview_every
    )
    with connected(context) as client:
        leave(work(client, pictures, wanted, output, as_json=as_json))


@reported
def upscale(
    context: typer.Context,
    pictures: Pictures,
    factor: Annotated[float, typer.Option(help="Enlargement of an edge, 1 to 8.")] = 4.0,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The upscaler; by default the best installed.")
    ] = "",
    tile: Annotated[
        int, typer.Option(help="Edge of a tile in pixels; 0 is what there is memory for.")
    ] = 0,
    overlap: Annotated[
        int | None,
        typer.Option(help="Pixels that tiles share, less than half of one; by default 16."),
    ] = None,
    output: Output = None,
    format: Format = None,
    quality: Quality = None,
    lossless: Lossless = False,
    preview_every: PreviewEvery = None,
    device: Devices = None,
    any_of: AnyOf = "",
    as_json: AsJson = False,
) -> None:
    """Enlarge pictures with an upscaler, in tiles."""
    from server.cli.placing import placement
    from server.cli.processing import Wanted
    from server.cli.processing import process as work

    step = f"upscale:factor={factor},tile_pixels={tile},postprocessor_id={model}"
    if overlap is not None:
        step += f",tile_overlap_pixels={overlap}"
    where = placement(device or (), any_of)
    wanted = Wanted((step,), where, format, quality, lossless, preview_every=preview_every)
    with connected(context) as client:
        leave(work(client, pictures, wanted, output, as_json=as_json))
