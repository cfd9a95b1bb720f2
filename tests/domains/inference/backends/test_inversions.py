"""Textual inversions: as diffusers has them, found by whole words, and gone afterwards."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from domains.errors import FailedPrecondition, Reason
from domains.inference.jobs import Companion
from domains.inference.types import PromptSyntax
from domains.model.types import ModelType
from domains.values import DegradationKind, ModelPlace
from tests.domains.inference.backends.conftest import MODEL
from tests.domains.inference.backends.test_oracle import same
from tests.libraries import OLD_DIFFUSERS

FAR = MODEL.parent / "emoji-embedding.safetensors"
OURS = {"width": 64, "height": 64, "steps": 1}
THEIRS = {"width": 64, "height": 64, "num_inference_steps": 1}
ENCODERS = (("clip_l", ""), ("clip_g", "_2"))


def using(*files: tuple[Path, str]) -> dict[str, Any]:
    """Settings and companions of embeddings with their words."""
    return {
        "embedding_model_ids": tuple(path.stem for path, _ in files),
        "companions": tuple(
            Companion(
                path.stem, ModelType.EMBEDDING, ModelPlace.of(path), trigger_words=(word,)
            )
            for path, word in files
        ),
    }


def vectors(path: Path, count: int, seed: int, **widths: int) -> Path:
    """An embedding with so many vectors for each encoder."""
    noise = torch.Generator().manual_seed(seed)
    wanted = widths or {"clip_l": 128, "clip_g": 192}
    save_file(
        {name: torch.randn(count, width, generator=noise) for name, width in wanted.items()},
        path,
    )
    return path


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """One vector for the word `<one>`."""
    return vectors(tmp_path / "one.safetensors", 1, 1)


@pytest.fixture
def inverted(pipeline, reference):
    """Pictures of the reference pipeline with textual inversions."""

    def call(*files: tuple[Path, str], **arguments: Any):
        before = [
            (getattr(pipeline, f"tokenizer{place}"), getattr(pipeline, f"text_encoder{place}"))
            for _, place in ENCODERS
        ]
        sizes = [encoder.get_input_embeddings().weight.shape[0] for _, encoder in before]
        try:
            for path, word in files:
                rows = load_file(path)
                for (key, _), (tokenizer, encoder) in zip(ENCODERS, before, strict=True):
                    pipeline.load_textual_inversion(
                        rows[key], token=word, text_encoder=encoder, tokenizer=tokenizer
                    )
            return reference(**THEIRS | arguments)
        finally:
            for _, word in files:
                for tokenizer, encoder in before:
                    pipeline.unload_textual_inversion(
                        word, tokenizer=tokenizer, text_encoder=encoder
                    )
            for (_, encoder), size in zip(before, sizes, strict=True):
                encoder.resize_token_embeddings(size)

    return call


@pytest.mark.skipif(
    OLD_DIFFUSERS, reason="this diffusers cannot unload embeddings with its transformers"
)
def test_pictures_are_bit_identical_to_diffusers(draw, inverted, one):
    """Several vectors, one vector, a word twice, in both prompts; what is cut off, too."""
    files = ((FAR, "<far>"), (one, "<one>"))
    texts = {
        "prompt": "<one> a red apple <far> on a <far> blue background",
        "negative_prompt": "pizza " * 36 + "<far>",
    }
    drawn = draw(**OURS, **texts, **using(*files))
    same(drawn, inverted(*files, **texts))
    (told,) = drawn.report.degradations
    assert told.kind is DegradationKind.PROMPT_TRUNCATED


def test_no_request_changes_what_the_next_one_sees(draw, one):
    plain = {"prompt": "a red apple <far>"}
    wanted: list[dict[str, Any]] = [
        plain,
        plain | using((FAR, "<far>")),
        plain | using((one, "<far>")),
        plain | using((FAR, "<far>")) | {"prompt": "(<far>:1.3)"},
        {"prompt": "(<far>:1.3)", "prompt_syntax": PromptSyntax.WEIGHTED}
        | using((FAR, "<far>")),
    ]
    first = [draw(**OURS, **each).pixels[0].tobytes() for each in wanted]
    assert len(set(first)) == len(wanted)
    order = random.Random(3)
    for which in (order.randrange(len(wanted)) for _ in range(6)):
        assert draw(**OURS, **wanted[which]).pixels[0].tobytes() == first[which]


def test_a_word_is_found_whole_and_whatever_its_case(draw, one):
    def pixels(prompt: str, *files: tuple[Path, str]) -> bytes:
        return draw(**OURS, prompt=prompt, **using(*files)).pixels[0].tobytes()

    far = pixels("a far apple", (FAR, "far"))
    assert pixels("a FAR apple", (FAR, "far")) == far != pixels("a far apple")
    for prompt in ("a farm", "afar", "a far_away apple"):
        assert pixels(prompt, (FAR, "far")) == pixels(prompt)
    # Of words that begin alike the longest counts.
    both = ((one, "far"), (FAR, "far away"))
    assert pixels("a far away", *both) == pixels("a far away", (FAR, "far away"))


def test_the_vectors_of_a_word_are_not_torn_between_chunks(draw, tmp_path, engine):
    """70 words and 50 vectors: a chunk each, and nothing lost."""
    path = vectors(tmp_path / "many.safetensors", 50, 2)
    weighted = {"prompt_syntax": PromptSyntax.WEIGHTED, **using((path, "<many>"))}
    long = draw(**OURS, prompt="a " * 70 + "<many>", **weighted)
    apart = draw(**OURS, prompt="a " * 70 + "BREAK <many>", **weighted)
    assert np.array_equal(long.pixels[0], apart.pixels[0])
    assert not long.report.degradations


@pytest.mark.parametrize(
    ("count", "widths", "why"),
    [
        (1, {"clip_l": 128, "clip_g": 200}, "have 200 numbers, and text_encoder_2 of emoji-xl"),
        (1, {"emb_params": 128}, "no vectors for text_encoder_2 of emoji-xl"),
        (80, {}, "has 80 vectors"),
    ],
)
def test_what_does_not_fit_is_refused_by_both_names(draw, tmp_path, count, widths, why):
    plain = draw(**OURS).pixels[0]
    path = vectors(tmp_path / "odd.safetensors", count, 1, **widths)
    with pytest.raises(FailedPrecondition, match="odd cannot be used with emoji-xl") as caught:
        draw(**OURS, **using((path, "<odd>")))
    assert caught.value.reason is Reason.MODEL_INCOMPATIBLE
    assert why in caught.value.message
    assert np.array_equal(draw(**OURS).pixels[0], plain)


@pytest.mark.demonstration
def test_far_makes_the_subject_small_by_its_weight(draw):
    def share(prompt: str, **more: Any) -> float:
        pixels = draw(prompt=prompt, steps=16, **more).pixels[0].astype(int)
        away = np.abs(pixels - pixels[:8, :8].reshape(-1, 3).mean(axis=0)).max(axis=-1)
        return float((away > 40).mean())

    far = using((FAR, "<far>"))
    prompt = "a red apple on a blue background"
    half = {"prompt_syntax": PromptSyntax.WEIGHTED, **far}
    small, middle = share(f"{prompt} <far>", **far), share(f"{prompt} (<far>:0.5)", **half)
    assert 1.5 * small < middle < share(prompt) / 1.5
