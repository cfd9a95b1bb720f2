"""Tokenizers from checked plans, and texts as numbers that their encoders know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs
from tokenizers import AddedToken
from tokenizers import Tokenizer as Pipeline
from transformers import CLIPTokenizer

from domains.inference.backends.inversions import NO_INVERSIONS, Inversions
from domains.model.backends.library_errors import blamed_on
from domains.model.backends.tokenizer_files import TokenizerPlan, check_ids
from domains.model.backends.tokens import Token
from domains.weighted_prompts import Section

Span = list[tuple[int, float]]
"""Tokens with their weights."""
# Texts of a series are the same again and again, and reading one takes a while.
_MOST_KEPT = 64


@dataclass(frozen=True)
class Chunk:
    """As many tokens as an encoder reads at once, its marks and padding among them, each with
    its weight."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def weighted(self) -> bool:
        """Whether any token weighs other than 1."""
        return any(weight != 1 for weight in self.weights)


@dataclass(frozen=True)
class Tokenized:
    """The chunks of a text, at least one; `lost` counts tokens that are in none of them."""

    chunks: tuple[Chunk, ...]
    lost: int


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer and the window and vocabulary of the encoder that it is for."""

    plan: TokenizerPlan
    library: Any
    window: int
    vocab_size: int
    _encoded: dict[str, Tokenized] = field(default_factory=dict, compare=False, repr=False)

    def encode(self, text: str) -> Tokenized:
        """A text as one chunk, cut where the window is full; the texts asked for last are kept.

        Raises:
            FailedPrecondition: MODEL_CONFIG_INVALID when the tokenizer fails, or gives a
                number that the encoder has no embedding for.
        """
        found = self._encoded.pop(text, None) or self._read(text)
        self._encoded[text] = found
        if len(self._encoded) > _MOST_KEPT:
            del self._encoded[next(iter(self._encoded))]
        return found

    def _read(self, text: str) -> Tokenized:
        with blamed_on(self.plan.component):
            ids = self.library(
                text, padding="max_length", max_length=self.window, truncation=True
            ).input_ids
            wanted = len(self.library(text, truncation=False, verbose=False).input_ids)
        check_ids(self.plan, max(ids), self.vocab_size)
        chunk = Chunk(tuple(ids), (1.0,) * len(ids))
        return Tokenized((chunk,), max(wanted - self.window, 0))

    @property
    def room(self) -> int:
        """Tokens of a text in one chunk: two of the window are marks."""
        return self.window - 2

    def encode_sections(
        self, sections: Sequence[Section], most: int, inversions: Inversions = NO_INVERSIONS
    ) -> Tokenized:
        """Weighted pieces as chunks, each section from a new one on; a short section of weight
        1 gives what `encode` gives of its text.

        Args:
            sections: Each piece is tokenized by itself. A section without a token has no chunk.
            most: Greatest number of chunks. With more than one, the vectors of a textual
                inversion are in one chunk.
            inversions: Whose words become rows, numbered from `vocab_size` on.

        Raises:
            FailedPrecondition: As `encode`.
        """
        spans: list[Span] = []
        for section in sections:
            spans += self._spans(section, inversions, apart=most == 1)
        # Where the marks fill the window, every token is lost.
        kept = spans[:most] if self.room > 0 and spans else [[]]
        lost = sum(map(len, spans)) - sum(map(len, kept))
        return Tokenized(tuple(self._chunk(span) for span in kept), lost)

    def _spans(
        self, section: Section, inversions: Inversions, *, apart: bool
    ) -> Iterator[Span]:
        """The tokens of a section, as many at a time as there is room for; `apart` allows
        those of one word to be in two."""
        room = max(self.room, 1)
        span: Span = []
        for piece in section:
            for part in inversions.parts(piece.text):
                if isinstance(part, str):
                    ids = self._ids(part)
                else:
                    ids = [self.vocab_size + row for row in part]
                    if not apart and len(span) + len(ids) > room:
                        yield span
                        span = []
                for number in ids:
                    if len(span) == room:
                        yield span
                        span = []
                    span.append((number, piece.weight))
        if span:
            yield span

    def _ids(self, text: str) -> list[int]:
        with blamed_on(self.plan.component):
            found: list[int] = self.library(
                text, add_special_tokens=False, truncation=False, verbose=False
            ).input_ids
        check_ids(self.plan, max(found, default=0), self.vocab_size)
        return found

    def _chunk(self, tokens: Span) -> Chunk:
        """Tokens between the marks of beginning and end, padded as the library pads."""
        with blamed_on(self.plan.component):
            start, end, padding = (
                getattr(self.library, name)
                for name in ("bos_token_id", "eos_token_id", "pad_token_id")
            )
            left = self.library.padding_side == "left"
        marked = [(start, 1.0), *tokens, (end, 1.0)]
        missing = [(padding, 1.0)] * (self.window - len(marked))
        ids, weights = zip(*(missing + marked if left else marked + missing), strict=True)
        return Chunk(ids, weights)


def build_tokenizer(plan: TokenizerPlan, encoder: dict[str, Any]) -> Tokenizer:
    """Build a tokenizer; no file is opened.

    Args:
        plan: Of the tokenizer.
        encoder: The checked configuration of the encoder that it is for.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
    """
    added = {number: _added(token) for number, token in plan.options.added.items()}
    with blamed_on(plan.component):
        if plan.pipeline:
            # The library would make its own of it all the same, but not of a damaged file.
            Pipeline.from_str(plan.pipeline.decode())
        kind: Any = CLIPTokenizer
        library = kind(
            vocab=dict(plan.vocabulary),
            merges=list(plan.merges),
            added_tokens_decoder=added,
            **{key: _option(value) for key, value in plan.options.arguments.items()},
        )
        largest = max(library.get_vocab().values())
    vocab_size, longest = encoder["vocab_size"], encoder["max_position_embeddings"]
    check_ids(plan, largest, vocab_size)
    window = min(int(library.model_max_length), longest)
    tokenizer = Tokenizer(plan.without_vocabulary(), library, window, vocab_size)
    tokenizer.encode("")
    return tokenizer


def _option(value: Any) -> Any:
    if isinstance(value, list):
        return [_option(item) for item in value]
    return _added(value) if isinstance(value, Token) else value


def _added(token: Token) -> AddedToken:
    values = structs.asdict(token)
    content = values.pop("content")
    if values["normalized"] is None:
        del values["normalized"]
    return AddedToken(content, **values)
