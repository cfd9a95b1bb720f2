"""Textual inversions at work: words of a prompt that stand for vectors of their own.

"An Image is Worth One Word: Personalizing Text-to-Image Generation using Textual Inversion"
(arXiv:2208.01618). A word becomes as many tokens as its file has vectors, numbered from where
the encoder's vocabulary ends. Nothing is added to tokenizer or encoder: while such a chunk is
encoded, its vectors stand in for what the encoder looks up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from domains.inference.jobs import Companion
from domains.model.backends.confined_files import Fingerprint


@dataclass(frozen=True)
class Inversion:
    """The vectors of one file, float `[count, width]` by text encoder, on the device."""

    companion: Companion
    fingerprint: Fingerprint
    rows: Mapping[str, torch.Tensor]

    @property
    def count(self) -> int:
        """Vectors that its words stand for; every encoder has as many."""
        return len(next(iter(self.rows.values())))


class Inversions:
    """Those of one request, in its order; without any, prompts have only words."""

    def __init__(self, each: Sequence[Inversion] = ()) -> None:
        self._each = tuple(each)
        words = [(word, one) for one in each for word in one.companion.trigger_words]
        # Of words that begin alike the longest counts.
        words.sort(key=lambda pair: -len(pair[0]))
        self._owners = [one for _, one in words]
        self._words = re.compile(
            "|".join(f"({_alone(word)})" for word, _ in words) or r"(?!)", re.IGNORECASE
        )
        self._ranges: dict[str, range] = {}
        first = 0
        for one in each:
            self._ranges[one.companion.model_id] = range(first, first + one.count)
            first += one.count

    @property
    def key(self) -> tuple[object, ...]:
        """What its vectors are, for whoever keeps what was made with them."""
        return tuple((one.companion.place, one.fingerprint) for one in self._each)

    def stand_in(self, text: str) -> bool:
        """Whether one of the words is in the text."""
        return self._words.search(text) is not None

    def parts(self, text: str) -> Iterator[str | range]:
        """The text in its order, with row numbers where one of the words stands.

        A word is found whatever its case, and not within another word.
        """
        done = 0
        for found in self._words.finditer(text):
            yield text[done : found.start()]
            assert found.lastindex is not None
            yield self._ranges[self._owners[found.lastindex - 1].companion.model_id]
            done = found.end()
        yield text[done:]

    def rows(self, encoder: str) -> torch.Tensor:
        """All vectors for one encoder, `[rows, width]`."""
        return torch.cat([one.rows[encoder] for one in self._each])


NO_INVERSIONS = Inversions()


@contextmanager
def standing_in(encoder: Any, places: torch.Tensor, rows: torch.Tensor) -> Iterator[None]:
    """Inside, the encoder sees `rows` [count, width] at `places`, a mask [1, window] with as
    many places set, instead of what it looks up for the tokens there."""

    def replaced(_module: Any, _tokens: Any, found: torch.Tensor) -> torch.Tensor:
        found = found.clone()
        found[places] = rows.to(found.dtype)
        return found

    handle = encoder.get_input_embeddings().register_forward_hook(replaced)
    try:
        yield
    finally:
        handle.remove()


def _alone(word: str) -> str:
    """A pattern for a word that is not part of another."""
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", word) else ""
    return before + re.escape(word) + after
