"""Contact sheets: pictures in labelled rows and columns, one WebP file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SHEETS = Path(__file__).parents[1] / "sheets"
CELL = 128
GAP = 4
ROW_LABEL = 132
COLUMN_LABEL = 34
LETTERS = 20  # of a column's label that fit on one of its two lines
QUALITY = 80


def write_sheet(
    path: Path, rows: Sequence[tuple[str, Tensor]], columns: Sequence[str] = ()
) -> None:
    """Write a sheet.

    Args:
        path: Where to; a .webp file, overwritten.
        rows: Label and float pictures [N, 3, H, W] in [0, 1] of each row, from the top.
        columns: Labels of the columns, cut to two short lines.
    """
    width = max(len(pictures) for _, pictures in rows)
    size = (
        ROW_LABEL + width * (CELL + GAP),
        COLUMN_LABEL + len(rows) * (CELL + GAP),
    )
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for column, label in enumerate(columns):
        pen.multiline_text(
            (ROW_LABEL + column * (CELL + GAP), 2), _two_lines(label), "black", font
        )
    for row, (label, pictures) in enumerate(rows):
        top = COLUMN_LABEL + row * (CELL + GAP)
        pen.multiline_text((4, top + CELL // 2 - 12), _two_lines(label), "black", font)
        for column, picture in enumerate(pictures):
            cell = to_image(picture).resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(cell, (ROW_LABEL + column * (CELL + GAP), top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=QUALITY, method=6)


def to_image(picture: Tensor) -> Image.Image:
    """A float picture [3, H, W] in [0, 1] as a Pillow image."""
    levels = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def _two_lines(label: str) -> str:
    """Break at the last space that keeps the first line short; cut what is still too long."""
    if len(label) <= LETTERS:
        return label
    at = label.rfind(" ", 0, LETTERS + 1)
    at = at if at > 0 else LETTERS
    return f"{label[:at]}\n{label[at:].strip()[:LETTERS]}"
