"""The upscalers: PSNR against bicubic enlargement on emoji that training never saw."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from demo.measure.figures import Figure
from demo.measure.pictures import MODELS, SEED
from demo.measure.sheet import SHEETS, write_sheet
from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import load_emoji
from demo.train.parts.losses import psnr
from demo.train.srvgg import compact_from
from demo.train.upscaler import enlarge_bicubic, shrink, split

PICTURES = 32
SHOWN = 6
SHOWN_SIDE = 96
GAIN_DB = 2.5
GOAL = f">= {GAIN_DB} dB above bicubic"


def measure(models: Path = MODELS, sheets: Path = SHEETS) -> list[Figure]:
    """Compare both upscalers with bicubic enlargement and show details of pictures."""
    _, kept_out = split(load_emoji())
    drawn = Compositor(kept_out, device="cpu", seed=SEED).draw(PICTURES)
    truth = (drawn.pixels + 1) / 2
    figures: list[Figure] = []
    rows: list[tuple[str, Tensor]] = [("truth", _detail(truth))]
    for scale in (4, 2):
        network = compact_from(load_file(models / f"compact-{scale}x.safetensors")).float()
        low = shrink(truth, scale)
        with torch.no_grad():
            ours = torch.cat([network(part).clamp(0, 1) for part in torch.split(low, 4)])
        bicubic = enlarge_bicubic(low, scale)
        quality, before = _quality(ours, truth), _quality(bicubic, truth)
        figures += [
            Figure(f"{scale}x: PSNR, dB", quality),
            Figure(f"{scale}x: PSNR of bicubic, dB", before),
            Figure(f"{scale}x: gain, dB", quality - before, GOAL, quality - before >= GAIN_DB),
        ]
        rows += [(f"{scale}x bicubic", _detail(bicubic)), (f"{scale}x ours", _detail(ours))]
    write_sheet(sheets / "upscaler.webp", rows, drawn.prompts[:SHOWN])
    return figures


def _quality(result: Tensor, truth: Tensor) -> float:
    return float(psnr(result * 2 - 1, truth * 2 - 1).mean())


def _detail(pictures: Tensor) -> Tensor:
    """The middle of the first pictures, so that pixels can be seen."""
    start = (pictures.shape[-1] - SHOWN_SIDE) // 2
    place = slice(start, start + SHOWN_SIDE)
    return pictures[:SHOWN, :, place, place]
