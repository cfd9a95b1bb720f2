"""Options of `generate` that make many different pictures of one request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Each = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=VALUE,VALUE,...",
        help="Draw with each of these values of a field as of --set, a value with commas in"
        " double quotes; repeatable: every combination.",
    ),
]
Runs = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Draw all of it so many times; seeds count on from run to run."
    ),
]
Items = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Draw each line of a .csv file, whose columns are fields as of --set, item_id and"
        " cleared_fields, or of a .jsonl file; the other options say what they have in common.",
    ),
]
Share = Annotated[
    bool,
    typer.Option(
        "--share",
        help="Let pictures of the batch share passes: faster on a GPU, not bit for bit alike.",
    ),
]
