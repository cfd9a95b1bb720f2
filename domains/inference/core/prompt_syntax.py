"""What of a prompt other programs read as commands, and this version draws as words."""

from __future__ import annotations

import re

from domains.inference.types import GenerationSettings
from domains.values import Degradation, DegradationKind

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


def drawn_as_words(settings: GenerationSettings) -> tuple[Degradation, ...]:
    """What in the prompts looks like a command; none of it is repeated, as of any prompt.

    Sources: the syntax of AUTOMATIC1111's web UI, of ComfyUI and of its dynamic prompts.
    """
    second = settings.sdxl
    prompts = {
        "prompt": settings.prompt,
        "negative_prompt": settings.negative_prompt,
        "sdxl.prompt_2": second.prompt_2 if second else None,
        "sdxl.negative_prompt_2": second.negative_prompt_2 if second else None,
    }
    found = {
        field: [name for name, mark in _MARKS.items() if mark.search(text)]
        for field, text in prompts.items()
        if text
    }
    return tuple(
        Degradation(
            DegradationKind.PROMPT_SYNTAX_LITERAL,
            f"{field} holds what other programs read as {_listed(names)}; here every "
            "character is text and is drawn as words.",
        )
        for field, names in found.items()
        if names
    )


def _listed(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
