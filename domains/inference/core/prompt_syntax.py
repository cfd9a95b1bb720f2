"""Commands in prompts: those that are none here, and weights out of range."""

from __future__ import annotations

import re
from collections.abc import Iterator

from domains.errors import FieldViolation, Reason
from domains.inference.types import GenerationSettings, PromptSyntax
from domains.values import Degradation, DegradationKind
from domains.weighted_prompts import MOST_WEIGHT, too_heavy

# No two parts of a pattern can match the same characters: long prompts cost a single pass.
_NUMBER = r":\s*[-+]?(?=\.?\d)\d*(?:\.\d*)?\s*"
_MARKS = {
    "LoRA tags": re.compile(r"<(?:lora|lyco|hypernet):[^<>]+>", re.IGNORECASE),
    "embeddings": re.compile(r"\bembedding:\s*\w", re.IGNORECASE),
    "weights": re.compile(rf"\([^()]*{_NUMBER}\)|\(\([^()]*\)\)"),
    "words for some of the steps": re.compile(
        rf"\[[^\[\]]*{_NUMBER}\]|\[[^\[\]|]*\|[^\[\]]*\]"
    ),
    "choices": re.compile(r"\{[^{}|]*\|[^{}]*\}"),
    "BREAK": re.compile(r"\bBREAK\b"),
}


# What is no command where prompts have weights.
_READ = {PromptSyntax.PLAIN: frozenset[str](), PromptSyntax.WEIGHTED: {"weights", "BREAK"}}


def drawn_as_words(settings: GenerationSettings) -> tuple[Degradation, ...]:
    """What in the prompts looks like a command and is none; nothing of it is repeated, as of
    any prompt.

    Sources: the syntax of AUTOMATIC1111's web UI, of ComfyUI and of its dynamic prompts.
    """
    read = _READ[settings.prompt_syntax]
    found = {
        field: [name for name, mark in _MARKS.items() if name not in read and mark.search(text)]
        for field, text in settings.prompts.items()
    }
    return tuple(
        Degradation(
            DegradationKind.PROMPT_SYNTAX_LITERAL,
            f"{field} holds what other programs read as {_listed(names)}; with prompt_syntax "
            f"{settings.prompt_syntax.name} it is drawn as words.",
        )
        for field, names in found.items()
        if names
    )


def check_weights(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    """Prompts whose weights are greater than any that makes sense."""
    if settings.prompt_syntax is not PromptSyntax.WEIGHTED:
        return
    for field, text in settings.prompts.items():
        piece = too_heavy(text)
        if piece is not None:
            yield FieldViolation(
                f"{path}.{field}",
                Reason.PROMPT_SYNTAX,
                f"The weight at position {piece.start}, those around it multiplied in, must be "
                f"from {-MOST_WEIGHT:g} to {MOST_WEIGHT:g}.",
            )


def _listed(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
