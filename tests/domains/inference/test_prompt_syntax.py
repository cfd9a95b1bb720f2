"""What in a prompt looks like a command is told, and drawn as the words that it is."""

from __future__ import annotations

import pytest

from domains.inference.core.prompt_syntax import drawn_as_words
from domains.inference.types import GenerationSettings, SdxlSettings
from domains.values import DegradationKind


@pytest.mark.parametrize(
    ("prompt", "read_as"),
    [
        ("a cat <lora:line-art:0.8>", "LoRA tags"),
        ("a cat <LyCO:x>", "LoRA tags"),
        ("a (red:1.4) cat", "weights"),
        ("a (red hat: .5 ) cat", "weights"),
        ("(x:1.2:1.1)", "weights"),
        ("(x:0), (y:-1)", "weights"),
        ("a ((red)) cat", "weights"),
        ("embedding:far, a cat", "embeddings"),
        ("a cat BREAK a dog", "BREAK"),
        ("a [cat:dog:0.5]", "words for some of the steps"),
        ("a [cat|dog]", "words for some of the steps"),
        ("a {red|blue} cat", "choices"),
        ("<lora:x:1> (red:1.4) BREAK", "LoRA tags, weights and BREAK"),
    ],
)
def test_what_looks_like_a_command_is_told(prompt: str, read_as: str) -> None:
    (told,) = drawn_as_words(GenerationSettings(prompt=prompt))

    assert told.kind is DegradationKind.PROMPT_SYNTAX_LITERAL
    assert told.detail.startswith(f"prompt holds what other programs read as {read_as};")


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a cat",
        "a cat (red, with a hat) on a mat",
        "a sign that says: 12:30",
        "coffee break, BREAKFAST, daybreak",
        "1 < 2 > 0, a <b> c",
        "[a] {b} (c) ((d",
        "an embedding of words",
        *(mark * 5_000 for mark in ("(:", "[|", "{|", "(1", "[:1", "<lora:", "((")),
    ],
)
def test_plain_words_are_not(prompt: str) -> None:
    assert drawn_as_words(GenerationSettings(prompt=prompt[:10_000])) == ()


def test_each_prompt_is_named_and_none_repeated() -> None:
    secret = "(secret:1.2)"
    settings = GenerationSettings(
        prompt="a cat",
        negative_prompt=secret,
        sdxl=SdxlSettings(prompt_2=secret, negative_prompt_2=secret),
    )

    told = [each.detail for each in drawn_as_words(settings)]

    assert [detail.split()[0] for detail in told] == [
        "negative_prompt",
        "sdxl.prompt_2",
        "sdxl.negative_prompt_2",
    ]
    assert not any("secret" in detail for detail in told)
