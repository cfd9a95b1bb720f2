"""Weighted and long prompts, against the formula written down a second time.

A prompt becomes chunks of 75 tokens between marks, each encoded alone. A token of weight w
becomes (z - e) * w + e, where z is its state and e the empty text's at the same place. What
comes out is given to the reference pipeline, whose picture is the engine's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from domains.inference.types import GuidanceSettings, PromptSyntax, SdxlSettings
from domains.values import DegradationKind
from tests.domains.inference.backends.test_oracle import same

WEIGHTED = PromptSyntax.WEIGHTED
TINY = {"width": 64, "height": 64}
OURS, THEIRS = TINY | {"steps": 1}, TINY | {"num_inference_steps": 1}
Pieces = Sequence[Sequence[tuple[str, float]]]


def chunks_of(tokenizer: Any, sections: Pieces) -> list[tuple[list[int], list[float]]]:
    """Numbers and weights of 77 tokens each."""
    chunks = []
    for section in sections:
        numbers, weights = [], []
        for text, weight in section:
            found = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
            numbers += found
            weights += [weight] * len(found)
        for k in range(0, len(numbers), 75):
            part = numbers[k : k + 75]
            padding = 75 - len(part)
            chunks.append(
                (
                    [tokenizer.bos_token_id, *part, tokenizer.eos_token_id]
                    + [tokenizer.pad_token_id] * padding,
                    [1.0, *weights[k : k + 75], 1.0] + [1.0] * padding,
                )
            )
    return chunks


def embedding(
    tokenizer: Any, encode: Callable[[list[int]], Any], sections: Pieces, count: int
) -> Any:
    """States of all chunks one after the other, and the first one's vector.

    `encode` gives both of 77 tokens.
    """
    nothing = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    empty, _ = encode(nothing + [tokenizer.pad_token_id] * 75)
    parts, pooled = [], None
    for numbers, weights in chunks_of(tokenizer, sections):
        states, vector = encode(numbers)
        pooled = vector if pooled is None else pooled
        moved = states.clone()
        for place, weight in enumerate(weights):
            if weight != 1:
                nought = empty[:, place]
                moved[:, place] = (states[:, place] - nought) * weight + nought
        parts.append(moved)
    parts += [empty] * (count - len(parts))
    return torch.cat(parts, dim=1), pooled


def run(encoder: Any, numbers: list[int]) -> Any:
    """The encoder's whole output for one chunk."""
    with torch.no_grad():
        return encoder(torch.tensor([numbers]), output_hidden_states=True)


def sdxl_embeddings(
    pipeline: Any, first: Pieces, second: Pieces, count: int, skipped: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the pipeline takes instead of a prompt."""

    def encoding(encoder: Any) -> Callable[[list[int]], Any]:
        def encode(numbers: list[int]) -> Any:
            output = run(encoder, numbers)
            return output.hidden_states[-2 - skipped], output[0]

        return encode

    found = [
        embedding(tokenizer, encoding(encoder), sections, count)
        for tokenizer, encoder, sections in (
            (pipeline.tokenizer, pipeline.text_encoder, first),
            (pipeline.tokenizer_2, pipeline.text_encoder_2, second),
        )
    ]
    return torch.cat([states for states, _ in found], dim=-1), found[1][1]


LONG = "apple robot dog " * 40
PROMPT = r"a (red \(big\):1.4) apple, [dark] BREAK ((on a) blue" + f" background) {LONG}"
PIECES: Pieces = [
    [("a", 1.0), ("red (big)", 1.4), ("apple,", 1.0), ("dark", 0.909091)],
    [("on a", 1.21), ("blue background", 1.1), (LONG, 1.0)],
]


def test_a_long_weighted_prompt_is_bit_identical_to_the_formula(draw, reference, pipeline):
    """Two encoders, a clip skip for the prompt alone, a negative prompt with fewer chunks."""
    second, negative = [[("robot", -0.5), ("teal", 2.0)]], [[("pizza", 1.1)]]
    plain: Pieces = [[("dog", 1.0)]]
    embeds, pooled = sdxl_embeddings(pipeline, PIECES, second, 4, skipped=1)
    negative_embeds, negative_pooled = sdxl_embeddings(pipeline, negative, plain, 4)
    drawn = draw(
        prompt=PROMPT,
        negative_prompt="(pizza)",
        sdxl=SdxlSettings("(robot:-0.5)(teal:2)", "dog"),
        prompt_syntax=WEIGHTED,
        clip_skip=1,
        **OURS,
    )
    expected = reference(
        prompt=None,
        prompt_embeds=embeds,
        pooled_prompt_embeds=pooled,
        negative_prompt_embeds=negative_embeds,
        negative_pooled_prompt_embeds=negative_pooled,
        **THEIRS,
    )
    same(drawn, expected)
    assert drawn.report.degradations == ()


def test_an_absent_negative_prompt_is_zeros_of_the_same_length(draw, reference, pipeline):
    embeds, pooled = sdxl_embeddings(pipeline, PIECES, PIECES, 4)
    drawn = draw(prompt=PROMPT, prompt_syntax=WEIGHTED, **OURS)
    expected = reference(
        prompt=None,
        prompt_embeds=embeds,
        pooled_prompt_embeds=pooled,
        negative_prompt_embeds=torch.zeros_like(embeds),
        negative_pooled_prompt_embeds=torch.zeros_like(pooled),
        **THEIRS,
    )
    same(drawn, expected)


@pytest.mark.parametrize(
    "plain",
    [
        {"prompt": "a red apple", "negative_prompt": "pizza"},
        {"prompt": ""},
        {"prompt": "a dog", "sdxl": SdxlSettings("a robot", ""), "clip_skip": 1},
        {"prompt": "a cat", "guidance": GuidanceSettings(1.0)},
    ],
)
def test_weights_of_one_change_nothing(draw, plain):
    def weighted(text: str) -> str:
        if not text:
            return ""
        first, _, rest = text.partition(" ")
        return f"BREAK ({first}:1) [({rest})] BREAK"

    written = {
        name: SdxlSettings(
            *(weighted(text) for text in (value.prompt_2, value.negative_prompt_2))
        )
        if name == "sdxl"
        else weighted(value)
        if name.endswith("prompt")
        else value
        for name, value in plain.items()
    }
    expected = draw(**OURS, **plain)
    drawn = draw(**OURS, **written, prompt_syntax=WEIGHTED)
    same(drawn, (expected.pixels[0], expected.latents[0]))
    assert not drawn.report.degradations


def test_what_more_chunks_than_are_read_hold_is_told_as_lost(draw):
    drawn = draw(prompt="apple BREAK " * 34, prompt_syntax=WEIGHTED, **OURS)
    (told,) = drawn.report.degradations
    assert told.kind is DegradationKind.PROMPT_TRUNCATED
    assert told.detail.startswith("The last 2 tokens")


def test_no_prompt_changes_what_the_next_one_sees(draw):
    wanted: list[dict[str, Any]] = [
        {"prompt": "a red apple"},
        {"prompt": "a (red:1.4) apple", "prompt_syntax": WEIGHTED},
        {"prompt": "a (red:1.4) apple"},
        {"prompt": "a red apple", "negative_prompt": "pizza " * 90, "prompt_syntax": WEIGHTED},
        {"prompt": "a BREAK red apple", "prompt_syntax": WEIGHTED},
    ]
    first = [draw(**OURS, **each).pixels[0].tobytes() for each in wanted]
    assert len(set(first)) == len(wanted)
    order = random.Random(7)
    for which in (order.randrange(len(wanted)) for _ in range(6)):
        assert draw(**OURS, **wanted[which]).pixels[0].tobytes() == first[which]
