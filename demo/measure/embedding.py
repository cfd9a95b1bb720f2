"""What the textual inversion does, next to what the literal words do."""

from __future__ import annotations

from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from demo.measure.figures import Figure
from demo.measure.metrics import drawn
from demo.measure.pictures import MODELS, base_pictures, base_pipeline, draw, scenes
from demo.measure.sheet import SHEETS, write_sheet
from demo.train.embedding import TOKEN, far

EMBEDDING = MODELS / "emoji-embedding.safetensors"
WORDS = "far away"


def load(pipeline: Any) -> None:
    """Give a pipeline's tokenizers and text encoders the token."""
    rows = load_file(EMBEDDING)
    for key, place in (("clip_l", ""), ("clip_g", "_2")):
        pipeline.load_textual_inversion(
            rows[key],
            token=TOKEN,
            text_encoder=getattr(pipeline, f"text_encoder{place}"),
            tokenizer=getattr(pipeline, f"tokenizer{place}"),
        )


def sizes(pictures: Tensor) -> Tensor:
    """The share of each picture that is not background, [N]."""
    return drawn(pictures).float().mean(dim=(1, 2, 3))


def measure() -> list[Figure]:
    """Draw each scene plainly, with the words and with the token."""
    prompts, truth = scenes().prompts, scenes().truth
    pipeline = base_pipeline()
    words = draw(pipeline, tuple(f"{prompt} {WORDS}" for prompt in prompts))
    load(pipeline)
    token = draw(pipeline, tuple(f"{prompt} {TOKEN}" for prompt in prompts))
    target = (far(truth * 2 - 1) + 1) / 2
    rows = [
        ("base", base_pictures()),
        (f"words: {WORDS}", words),
        (f"token: {TOKEN}", token),
        ("what it learnt from", target),
    ]
    write_sheet(SHEETS / "embedding.webp", rows, prompts)
    return figures(*(pictures for _, pictures in rows))


def figures(base: Tensor, words: Tensor, token: Tensor, target: Tensor) -> list[Figure]:
    """How far each kind of picture [N, 3, H, W] is from the target's size, on average."""
    away = {
        name: float((sizes(pictures) - sizes(target)).abs().mean())
        for name, pictures in (("base", base), ("words", words), ("token", token))
    }
    nearest = away["token"] < min(away["base"], away["words"]) / 2
    return [
        Figure("share of the picture drawn on, base", float(sizes(base).mean())),
        Figure("share of the picture drawn on, words", float(sizes(words).mean())),
        Figure("share of the picture drawn on, token", float(sizes(token).mean())),
        Figure("share of the picture drawn on, target", float(sizes(target).mean())),
        Figure("distance from the target's share, base", away["base"]),
        Figure("distance from the target's share, words", away["words"]),
        Figure(
            "distance from the target's share, token",
            away["token"],
            "below half of the others'",
            nearest,
        ),
    ]
