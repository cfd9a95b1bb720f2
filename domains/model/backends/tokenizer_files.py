"""A tokenizer's files, read and checked; the library never opens one.

The same precedence as in `PreTrainedTokenizerBase.from_pretrained` of transformers 5, so
that the same files give the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.bounds import Config
from domains.model.backends.component_config import (
    ConfigFiles,
    check_config,
    invalid,
    read_limited,
)
from domains.model.backends.families.tokenizer import PIPELINE
from domains.model.backends.tokenizer_options import TokenizerOptions, read_options
from domains.model.backends.tokens import NumberedToken, Vocabulary

MAX_BYTES = 8 << 20
_MAX_ADDED = 256

Pair = tuple[str, str]


class _Model(msgspec.Struct):
    vocab: Vocabulary
    # Plain types: msgspec 0.22 crashes on a union of a bounded text and a pair.
    merges: list[str | list[str]] = []
    type: str | None = None


class _Side(msgspec.Struct):
    direction: Literal["Left", "Right"] = "Right"


class _Whole(msgspec.Struct):
    """`tokenizer.json`. The last four are not used: CLIP's tokenizer has its own."""

    model: _Model
    added_tokens: Annotated[list[NumberedToken], Meta(max_length=_MAX_ADDED)] = []
    padding: _Side | None = None
    truncation: _Side | None = None
    normalizer: Any = None
    pre_tokenizer: Any = None
    post_processor: Any = None
    decoder: Any = None

    def sides(self) -> dict[str, str]:
        """On which side of a text is padded and cut, where it says so."""
        sides = {"padding_side": self.padding, "truncation_side": self.truncation}
        return {key: side.direction.lower() for key, side in sides.items() if side is not None}

    def parts(self) -> Config:
        """What surrounds the vocabulary."""
        return {name: getattr(self, name) for name in PIPELINE.keys}

    def pipeline(self) -> bytes:
        """The file without vocabulary, as JSON."""
        empty = {"type": "BPE", "vocab": {}, "merges": []}
        rest = {"version": "1.0", "model": empty, "added_tokens": []}
        return msgspec.json.encode(rest | self.parts())


@dataclass(frozen=True)
class TokenizerPlan:
    """A tokenizer that can be built without opening a file.

    Attributes:
        component: Its folder in the model.
        encoder: The text encoder that its tokens are for.
        vocabulary: Number of each token.
        merges: Pairs of tokens that become one, the most frequent first.
        options: How it is set up.
        pipeline: `tokenizer.json` without vocabulary, or nothing where there is none.
    """

    component: str
    encoder: str
    vocabulary: Mapping[str, int]
    merges: tuple[Pair, ...]
    options: TokenizerOptions
    pipeline: bytes = b""

    @property
    def largest_id(self) -> int:
        """The greatest number that a text can come to have as a token."""
        new = len(self.options.texts - self.vocabulary.keys())
        return max(max(self.vocabulary.values()), len(self.vocabulary) + new - 1)

    def without_vocabulary(self) -> TokenizerPlan:
        """The same with no more than its names: what is left once it is built."""
        return replace(self, vocabulary={}, merges=(), pipeline=b"")


def read_tokenizer(files: ConfigFiles, folder: str, encoder: str) -> TokenizerPlan:
    """Read and check the files of a tokenizer's folder in a model.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE where there is no vocabulary,
            MODEL_CONFIG_INVALID for everything that no CLIP tokenizer has.
    """
    whole = _read_whole(files, folder)
    if whole is None:
        called = f"{folder}/vocab.json"
        vocabulary, merges = _read_halves(files, folder)
        options = read_options(files, folder, {}, ())
    else:
        called = f"{folder}/tokenizer.json"
        vocabulary, merges = whole.model.vocab, _pairs(folder, whole.model.merges)
        options = read_options(files, folder, whole.sides(), whole.added_tokens)
    _check_vocabulary(called, vocabulary, merges, options.unknown)
    pipeline = b"" if whole is None else whole.pipeline()
    return TokenizerPlan(folder, encoder, vocabulary, merges, options, pipeline)


def check_ids(plan: TokenizerPlan, largest: int, vocab_size: int) -> None:
    """Refuse token numbers that the encoder has no embedding for.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID. On a device such a number would end the
            whole process.
    """
    if largest >= vocab_size:
        raise invalid(
            plan.component,
            f"has tokens up to number {largest}, and its {plan.encoder} knows {vocab_size}",
        )


def _read_whole(files: ConfigFiles, folder: str) -> _Whole | None:
    called = f"{folder}/tokenizer.json"
    if not files.has_file(called):
        return None
    whole: _Whole = _decode(_Whole, read_limited(files, called, MAX_BYTES), called)
    if whole.model.type not in (None, "BPE"):
        raise invalid(called, "is of another kind of tokenizer than CLIP's")
    check_config(whole.parts(), PIPELINE, called=called)
    return whole


def _read_halves(files: ConfigFiles, folder: str) -> tuple[Vocabulary, tuple[Pair, ...]]:
    vocabulary, merges = f"{folder}/vocab.json", f"{folder}/merges.txt"
    if not (files.has_file(vocabulary) and files.has_file(merges)):
        raise FailedPrecondition(
            f"The model's {folder} has neither a tokenizer.json nor a vocabulary.",
            reason=Reason.MODEL_INCOMPLETE,
            metadata={"component": folder},
        )
    words = _decode(Vocabulary, read_limited(files, vocabulary, MAX_BYTES), vocabulary)
    try:
        text = read_limited(files, merges, MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(merges, "is not text") from None
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    rules = [line for line in lines if not line.startswith("#version")]
    return words, _pairs(folder, rules)


def _decode(kind: Any, raw: bytes, called: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise invalid(called, "is not what a tokenizer's file is") from None


def _pairs(folder: str, rules: Sequence[str | list[str]]) -> tuple[Pair, ...]:
    pairs = [rule.split(" ") if isinstance(rule, str) else rule for rule in rules]
    if not set(map(len, pairs)) <= {2}:
        raise invalid(folder, "has merges that are not of two tokens")
    return tuple(map(tuple, pairs))  # type: ignore[arg-type]


def _check_vocabulary(
    called: str, vocabulary: Vocabulary, merges: tuple[Pair, ...], unknown: str
) -> None:
    if unknown not in vocabulary:
        raise invalid(called, "lacks the token that stands for unknown text")
    # Tens of thousands: sets are much faster than a loop.
    if not {*chain.from_iterable(merges), *map("".join, merges)} <= vocabulary.keys():
        raise invalid(called, "lacks tokens that its merges name")
