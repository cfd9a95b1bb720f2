"""Commands in prompts, weights out of range, and prompts that are too long."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from domains.errors import Reason
from domains.inference.core.prompt_length import surely_truncated
from domains.inference.core.prompt_syntax import drawn_as_words
from domains.inference.core.validation import check_settings
from domains.inference.types import GenerationSettings, PromptSyntax, SdxlSettings
from domains.values import DegradationKind

WEIGHTED = PromptSyntax.WEIGHTED


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
    assert told.detail == (
        f"prompt holds what other programs read as {read_as}; with prompt_syntax PLAIN it is "
        "drawn as words."
    )


def test_where_prompts_have_weights_only_the_rest_is_told() -> None:
    text = "<lora:x:1> (red:1.4) BREAK [cat:dog:0.5]"
    settings = GenerationSettings(
        prompt=text, negative_prompt="(a:2) BREAK", prompt_syntax=WEIGHTED
    )

    (told,) = drawn_as_words(settings)

    assert "as LoRA tags and words for some of the steps;" in told.detail


def test_weights_beyond_the_greatest_are_refused_by_their_place() -> None:
    settings = GenerationSettings(
        prompt="a (cat:5.5)",
        negative_prompt="(dog:1.2)",
        sdxl=SdxlSettings(negative_prompt_2="(" * 20 + "secret"),
        prompt_syntax=WEIGHTED,
    )

    first, second = check_settings(settings, "settings")

    assert (first.field, first.reason) == ("settings.prompt", Reason.PROMPT_SYNTAX)
    assert "position 3, " in first.description
    assert second.field == "settings.sdxl.negative_prompt_2"
    assert "secret" not in second.description
    plain = replace(settings, prompt_syntax=PromptSyntax.PLAIN)
    assert check_settings(plain, "settings") == []


WORDS = "word " * 75


@pytest.mark.parametrize(
    ("prompt", "syntax", "told"),
    [
        (WORDS, PromptSyntax.PLAIN, False),
        (WORDS + "more", PromptSyntax.PLAIN, True),
        (WORDS + "!", PromptSyntax.PLAIN, True),
        ("don't, 12" * 16, PromptSyntax.PLAIN, True),
        (WORDS + "more", WEIGHTED, False),
        ("(" + "word " * 600 + ")", WEIGHTED, False),
        ("(a:1) " * 1600, WEIGHTED, False),
        ("word BREAK " * 33, WEIGHTED, True),
        ("a " * 2401, WEIGHTED, True),
    ],
)
def test_prompts_that_are_surely_too_long_are_told(
    prompt: str, syntax: PromptSyntax, told: bool
) -> None:
    found = surely_truncated(GenerationSettings(prompt=prompt, prompt_syntax=syntax))

    assert [each.kind for each in found] == [DegradationKind.PROMPT_TRUNCATED] * told
    if told:
        assert found[0].detail.startswith("prompt has more than the ")


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
