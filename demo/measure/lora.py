"""What the style LoRAs do: line art takes the colour out, pixel art makes blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from demo.measure.figures import Figure
from demo.measure.metrics import block_uniformity, saturation
from demo.measure.pictures import MODELS, base_pictures, base_pipeline, draw, scenes
from demo.measure.sheet import SHEETS, write_sheet

LINE_ART = MODELS / "line-art.safetensors"
PIXEL_ART = MODELS / "pixel-art.safetensors"
NEGATIVE = -0.5


def load(pipeline: Any, path: Path, name: str) -> None:
    """Give a pipeline the LoRA at `path` as adapter `name`, in whichever format it is."""
    pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name)


def measure() -> list[Figure]:
    """Draw with each LoRA at several weights, and with both."""
    prompts = scenes().prompts
    plain = base_pictures()
    pipeline = base_pipeline()
    load(pipeline, LINE_ART, "line")
    load(pipeline, PIXEL_ART, "pixel")

    def at(**weights: float) -> Tensor:
        pipeline.set_adapters(list(weights), list(weights.values()))
        return draw(pipeline, prompts)

    nothing = at(line=0.0, pixel=0.0)
    line = {weight: at(line=weight) for weight in (NEGATIVE, 0.5, 1.0)}
    pixel = {weight: at(pixel=weight) for weight in (NEGATIVE, 0.5, 1.0)}
    both = at(line=1.0, pixel=1.0)
    write_sheet(
        SHEETS / "lora.webp",
        [
            ("base", plain),
            *((f"line-art {weight:g}", pictures) for weight, pictures in line.items()),
            *((f"pixel-art {weight:g}", pictures) for weight, pictures in pixel.items()),
            ("both at 1", both),
        ],
        prompts,
    )
    return figures(plain, nothing, line, pixel, both)


def figures(
    plain: Tensor,
    nothing: Tensor,
    line: dict[float, Tensor],
    pixel: dict[float, Tensor],
    both: Tensor,
) -> list[Figure]:
    """The figures of pictures [N, 3, H, W]: without, at weight 0, by weight, with both."""
    colour = {weight: mean(saturation(pictures)) for weight, pictures in line.items()}
    blocks = {weight: mean(block_uniformity(pictures)) for weight, pictures in pixel.items()}
    colour[0.0], blocks[0.0] = mean(saturation(plain)), mean(block_uniformity(plain))
    lowered = 1 - colour[1.0] / colour[0.0]
    difference = float((plain - nothing).abs().max())
    both_colour, both_blocks = mean(saturation(both)), mean(block_uniformity(both))
    return [
        Figure("largest change of a pixel at weight 0", difference, "0", difference == 0),
        Figure("mean saturation, base", colour[0.0]),
        Figure(
            f"mean saturation, line-art {NEGATIVE:g}",
            colour[NEGATIVE],
            "above the base's",
            colour[NEGATIVE] > colour[0.0],
        ),
        Figure(
            "mean saturation, line-art 0.5",
            colour[0.5],
            "between those at 0 and 1",
            colour[1.0] < colour[0.5] < colour[0.0],
        ),
        Figure("mean saturation, line-art 1", colour[1.0]),
        Figure("saturation lowered by line-art 1", lowered, "> 0.8", lowered > 0.8),
        Figure("block uniformity, base", blocks[0.0]),
        Figure(
            f"block uniformity, pixel-art {NEGATIVE:g}",
            blocks[NEGATIVE],
            "below the base's",
            blocks[NEGATIVE] < blocks[0.0],
        ),
        Figure(
            "block uniformity, pixel-art 0.5",
            blocks[0.5],
            "between those at 0 and 1",
            blocks[0.0] < blocks[0.5] < blocks[1.0],
        ),
        Figure(
            "block uniformity, pixel-art 1",
            blocks[1.0],
            "above the base's",
            blocks[1.0] > blocks[0.0],
        ),
        Figure(
            "mean saturation, both at 1",
            both_colour,
            "below half the base's",
            both_colour < colour[0.0] / 2,
        ),
        Figure(
            "block uniformity, both at 1",
            both_blocks,
            "above line-art's alone",
            both_blocks > mean(block_uniformity(line[1.0])),
        ),
    ]


def mean(values: Tensor) -> float:
    """The mean over pictures."""
    return float(values.mean())
