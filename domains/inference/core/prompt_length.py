"""Which prompts are too long, as far as that can be told without a model's tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from domains.inference.types import GenerationSettings, PromptSyntax
from domains.values import Degradation, DegradationKind
from domains.weighted_prompts import MOST_CHUNKS, parse_prompt

# What CLIP's tokenizer never joins to one token: from each match comes at least one.
_WORD = re.compile(
    r"<\|(?:start|end)oftext\|>|'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\s\w]|_)+",
    re.IGNORECASE,
)
_ROOM = 75
"""Tokens that CLIP's window of 77 has beside the marks of beginning and end."""

_READ = {
    PromptSyntax.PLAIN: (1, "Shorten it, or use prompt_syntax WEIGHTED, which reads on."),
    PromptSyntax.WEIGHTED: (MOST_CHUNKS, "Shorten it."),
}
"""How many windows are read, and what to do about longer prompts."""


def surely_truncated(
    settings: GenerationSettings, trigger_words: Sequence[str] = ()
) -> tuple[Degradation, ...]:
    """Prompts with so many words that some certainly have no effect.

    A word may be several tokens, so that shorter ones may be too long as well: the generation
    itself counts tokens. A trigger word may be a single one, whatever it is made of.
    """
    told = []
    triggers = re.compile("|".join(map(re.escape, trigger_words)) or r"(?!)", re.IGNORECASE)
    for field, written in settings.prompts.items():
        text = triggers.sub(" a ", written)
        fewest = _fewest_chunks(text, settings.prompt_syntax)
        most, advice = _READ[settings.prompt_syntax]
        if fewest > most:
            what = f"{field} has more than the {most * _ROOM} tokens that text encoders read; "
            what += f"its end has no effect. {advice}"
            told.append(Degradation(DegradationKind.PROMPT_TRUNCATED, what))
    return tuple(told)


def _fewest_chunks(text: str, syntax: PromptSyntax) -> int:
    if syntax is PromptSyntax.PLAIN:
        return _chunks_of(_words(text))
    sections = parse_prompt(text)
    return sum(_chunks_of(sum(_words(piece.text) for piece in each)) for each in sections)


def _words(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))


def _chunks_of(tokens: int) -> int:
    return -(-tokens // _ROOM)
