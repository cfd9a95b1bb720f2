"""Options about the picture to start from, which `generate` has."""

from __future__ import annotations

from typing import Annotated

import typer

Image = Annotated[
    str | None,
    typer.Option(
        "--image",
        "-i",
        metavar="PICTURE",
        help="Start from a picture: a file, an artifact id, or SESSION#N.",
    ),
]
ImagePrompt = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID:PICTURE[:SCALE[:START[:END]]]",
        help="An IP-Adapter, a picture that it reads as a prompt, its strength, and between"
        " which shares of the steps it works. Repeatable: pictures of one ID are one prompt.",
    ),
]
Inpaint = Annotated[
    str | None,
    typer.Option(metavar="PICTURE", help="Redraw a part of a picture."),
]
Mask = Annotated[
    str | None,
    typer.Option(metavar="PICTURE", help="White is redrawn, black kept; of its size."),
]
InvertMask = Annotated[
    bool, typer.Option("--invert-mask", help="Black is redrawn, white kept.")
]
MaskBlur = Annotated[
    int | None, typer.Option(metavar="N", help="Pixels, 0 to 64; by default 4.")
]
Fill = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What is redrawn from: original, noise, blur or empty."),
]
Margins = Annotated[
    str | None,
    typer.Option(
        metavar="L,T,R,B",
        help="Pixels that are added around it and drawn; without --mask these alone.",
    ),
]
CropMargin = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Draw the mask alone with so many pixels around it, enlarged.",
    ),
]
KeepUnmasked = Annotated[
    bool,
    typer.Option("--keep-unmasked", help="Copy what is kept back, pixel for pixel."),
]
Strength = Annotated[
    float | None,
    typer.Option(metavar="X", help="How much of it is redrawn, 0 to 1; by default 0.8."),
]
Fit = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where its shape is another: stretch, contain (repeat its edges) or cover"
        " (cut off).",
    ),
]
