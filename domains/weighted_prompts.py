r"""Prompts with weights taken apart: `(word)`, `(word:1.3)`, `[word]`, `\(`, BREAK.

The syntax is that of AUTOMATIC1111's web UI (`modules/prompt_parser.py`), but that a backslash
before anything else than a bracket or a backslash is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

EMPHASIS = 1.1
"""What round brackets without a number multiply by, and square ones divide by."""
MOST_WEIGHT = 5.0
"""The greatest weight of a piece, of either sign."""
MOST_CHUNKS = 32
"""So many windows of a text encoder a prompt may fill; what lies beyond has no effect."""

# No two parts of it can match the same characters: long prompts cost a single pass.
_TOKEN = re.compile(
    r"""
    \\(?P<escaped>[()\[\]\\])
    | :\s*(?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)
    | [()\[\]]
    | [^\\()\[\]:]+
    | .
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_BREAK = re.compile(r"\bBREAK\b")
_OPENING = {"(": EMPHASIS, "[": 1 / EMPHASIS}
_CLOSES = {")": "(", "]": "["}
# Weights are kept to so many digits: `[(a)]` weighs 1.
_DIGITS = 6


@dataclass(frozen=True)
class Piece:
    """Text of one weight. `start` is the position of its first character in the prompt."""

    text: str
    weight: float = 1.0
    start: int = 0


Section = tuple[Piece, ...]
"""What stands between one BREAK and the next."""


def parse_prompt(prompt: str) -> tuple[Section, ...]:
    """The sections of a prompt, at least one; neighbours of the same weight are one piece.

    Round and square brackets are matched apart from each other. One that is never closed works
    to the end of the prompt; one that closes nothing is text. Never raises.
    """
    sections: list[list[Piece]] = [[]]
    for piece in _pieces(prompt):
        if piece is None:
            sections.append([])
        else:
            sections[-1].append(piece)
    return tuple(tuple(_merged(pieces)) for pieces in sections)


def too_heavy(prompt: str) -> Piece | None:
    """The first piece whose weight is beyond `MOST_WEIGHT`, or no number any more."""
    pieces = (piece for section in parse_prompt(prompt) for piece in section)
    return next((piece for piece in pieces if not abs(piece.weight) <= MOST_WEIGHT), None)


def readings(prompt: str) -> tuple[str, ...]:
    """What a prompt says without its brackets and weights: each piece as words of its own, and
    all as one text. A bracket may stand beside a word or within one."""
    sections = parse_prompt(prompt)
    return tuple(
        " ".join(between.join(piece.text for piece in section) for section in sections)
        for between in (" ", "")
    )


def _pieces(prompt: str) -> Iterator[Piece | None]:
    """Every run of text with its weight; None for a BREAK."""
    tokens = list(_TOKEN.finditer(prompt))
    factors, closings = _matched(tokens)
    # Those of one kind lie within each other: their products are a stack.
    products = {kind: [1.0] for kind in _OPENING}
    for index, token in enumerate(tokens):
        if index in factors:
            stack = products[token[0]]
            stack.append(stack[-1] * factors[index])
        elif index in closings:
            products[closings[index]].pop()
        else:
            weight = round(products["("][-1] * products["["][-1], _DIGITS)
            yield from _broken(token, weight)


def _matched(tokens: Sequence[re.Match[str]]) -> tuple[Mapping[int, float], Mapping[int, str]]:
    """By position among the tokens: the factor of each opening bracket, the kind of each that
    closes one."""
    still_open: dict[str, list[int]] = {kind: [] for kind in _OPENING}
    factors: dict[int, float] = {}
    closings: dict[int, str] = {}
    for index, token in enumerate(tokens):
        if token.lastgroup == "escaped":
            continue
        text = token[0]
        if text in _OPENING:
            still_open[text].append(index)
            factors[index] = _OPENING[text]
            continue
        kind = "(" if token.lastgroup else _CLOSES.get(text)
        if kind is None or not still_open[kind]:
            continue
        opening = still_open[kind].pop()
        closings[index] = kind
        if token.lastgroup:
            factors[opening] = float(token["number"])
    return factors, closings


def _broken(token: re.Match[str], weight: float) -> Iterator[Piece | None]:
    """The text of a token, and None where a BREAK stands in it."""
    text, start = token["escaped"] or token[0], token.start()
    done = 0
    for found in _BREAK.finditer(text):
        yield Piece(text[done : found.start()], weight, start + done)
        yield None
        done = found.end()
    yield Piece(text[done:], weight, start + done)


def _merged(pieces: Sequence[Piece]) -> Iterator[Piece]:
    filled = (piece for piece in pieces if piece.text)
    for weight, group in groupby(filled, key=lambda piece: piece.weight):
        members = list(group)
        yield Piece("".join(piece.text for piece in members), weight, members[0].start)
