"""A tokenizer's files, read and checked; the library never opens one.

The same precedence as in `PreTrainedTokenizerBase.from_pretrained` of transformers 5, so
that the same files give the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.bounds import Config
from domains.model.backends.component_config import (
    check_config,
    invalid,
    read_config,
    read_limited,
)
from domains.model.backends.families.clip import MAX_VOCABULARY
from domains.model.backends.families.tokenizer import (
    NAMED_TOKENS,
    OTHER_TOKENS,
    SPECIAL_TOKENS,
    TOKENIZER,
)

_MAX_BYTES = 8 << 20
_MAX_ADDED = 256

TokenText = Annotated[str, Meta(max_length=512)]
TokenId = Annotated[int, Meta(ge=0, lt=MAX_VOCABULARY)]
Pair = tuple[str, str]
Vocabulary = dict[TokenText, TokenId]


class Token(msgspec.Struct, frozen=True):
    """A token with the way it is matched; fields as in `tokenizers.AddedToken`."""

    content: Annotated[str, Meta(min_length=1, max_length=512)]
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool = False


class _NumberedToken(Token, frozen=True):
    id: TokenId = 0


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
    added_tokens: Annotated[list[_NumberedToken], Meta(max_length=_MAX_ADDED)] = []
    padding: _Side | None = None
    truncation: _Side | None = None
    normalizer: Any = None
    pre_tokenizer: Any = None
    post_processor: Any = None
    decoder: Any = None


@dataclass(frozen=True)
class TokenizerPlan:
    """A tokenizer that can be built without opening a file.

    Attributes:
        component: Its folder in the model.
        encoder: The text encoder that its tokens are for.
        vocabulary: Number of each token.
        merges: Pairs of tokens that become one, the most frequent first.
        options: Arguments of the library's class; tokens as text or `Token`.
        added: Tokens beside the vocabulary, by their number.
        pipeline: `tokenizer.json` without vocabulary, or nothing where there is none.
    """

    component: str
    encoder: str
    vocabulary: Mapping[str, int]
    merges: tuple[Pair, ...]
    options: Mapping[str, Any]
    added: Mapping[int, Token]
    pipeline: bytes = b""

    @property
    def largest_id(self) -> int:
        """The greatest number that a text can come to have as a token."""
        keys = (*NAMED_TOKENS, *OTHER_TOKENS)
        named = {_text(self.options[key]) for key in keys if key in self.options}
        every = named | {token.content for token in self.added.values()}
        every |= {_text(token) for token in self.options.get("extra_special_tokens", ())}
        new = len(every - self.vocabulary.keys())
        return max(max(self.vocabulary.values()), len(self.vocabulary) + new - 1)

    def without_vocabulary(self) -> TokenizerPlan:
        """The same with no more than its names: what is left once it is built."""
        return TokenizerPlan(self.component, self.encoder, {}, (), {}, {})


def read_tokenizer(folder: Path, encoder: str) -> TokenizerPlan:
    """Read and check the files of a tokenizer's folder.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE where there is no vocabulary,
            MODEL_CONFIG_INVALID for everything that no CLIP tokenizer has.
    """
    whole = _read_whole(folder)
    options = _options(folder, whole)
    if whole is not None:
        vocabulary, merges = whole.model.vocab, _pairs(folder, whole.model.merges)
        called = f"{folder.name}/tokenizer.json"
    else:
        vocabulary, merges = _read_halves(folder)
        called = f"{folder.name}/vocab.json"
    _check_vocabulary(called, vocabulary, merges, _text(options["unk_token"]))
    added = options.pop("added_tokens_decoder")
    return TokenizerPlan(
        component=folder.name,
        encoder=encoder,
        vocabulary=vocabulary,
        merges=merges,
        options=options,
        added=added,
        pipeline=_pipeline(whole) if whole is not None else b"",
    )


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


def _read_whole(folder: Path) -> _Whole | None:
    file, called = folder / "tokenizer.json", f"{folder.name}/tokenizer.json"
    if not file.is_file():
        return None
    whole: _Whole = _decode(_Whole, read_limited(file, called, _MAX_BYTES), called)
    if whole.model.type not in (None, "BPE"):
        raise invalid(called, "is of another kind of tokenizer than CLIP's")
    return whole


def _read_halves(folder: Path) -> tuple[Vocabulary, tuple[Pair, ...]]:
    name = folder.name
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocabulary.is_file() and merges.is_file()):
        raise FailedPrecondition(
            f"The model's {name} has neither a tokenizer.json nor a vocabulary.",
            reason=Reason.MODEL_INCOMPLETE,
            metadata={"component": name},
        )
    called = f"{name}/vocab.json"
    words = _decode(Vocabulary, read_limited(vocabulary, called, _MAX_BYTES), called)
    called = f"{name}/merges.txt"
    try:
        text = read_limited(merges, called, _MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(called, "is not text") from None
    lines = text.removesuffix("\n").split("\n") if text else []
    rules = [line.removesuffix("\r") for line in lines if not line.startswith("#version")]
    return words, _pairs(folder, rules)


def _decode(kind: Any, raw: bytes, called: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise invalid(called, "is not what a tokenizer's file is") from None


def _pairs(folder: Path, rules: Sequence[str | list[str]]) -> tuple[Pair, ...]:
    pairs = []
    for rule in rules:
        pair = rule.split(" ") if isinstance(rule, str) else rule
        if len(pair) != 2:
            raise invalid(folder.name, "has merges that are not of two tokens")
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)


def _check_vocabulary(
    called: str, vocabulary: Vocabulary, merges: tuple[Pair, ...], unknown: str
) -> None:
    if unknown not in vocabulary:
        raise invalid(called, "lacks the token that stands for unknown text")
    for first, second in merges:
        if not (first in vocabulary and second in vocabulary and first + second in vocabulary):
            raise invalid(called, "lacks tokens that its merges name")


def _options(folder: Path, whole: _Whole | None) -> dict[str, Any]:
    """The class's arguments: its defaults, then the configuration's, then legacy files'."""
    called = f"{folder.name}/tokenizer_config.json"
    config = _optional(folder, "tokenizer_config.json")
    check_config(config, TOKENIZER, called=called)
    added = _listed_tokens(config, called)
    if added is None:
        special = _optional(folder, "special_tokens_map.json")
        check_config(special, SPECIAL_TOKENS, called=f"{folder.name}/special_tokens_map.json")
        config |= {key: _special(value) for key, value in special.items()}
        added = _added_tokens(folder, config)
        for numbered in whole.added_tokens if whole is not None else ():
            added[numbered.id] = _plain(numbered)
    end, texts = "<|endoftext|>", {token.content: token for token in added.values()}
    options: dict[str, Any] = {
        "bos_token": "<|startoftext|>",
        "eos_token": end,
        "unk_token": end,
        "pad_token": end,
        "added_tokens_decoder": added,
    }
    if whole is not None and whole.padding is not None:
        options["padding_side"] = whole.padding.direction.lower()
    if whole is not None and whole.truncation is not None:
        options["truncation_side"] = whole.truncation.direction.lower()
    for key in (*NAMED_TOKENS, *OTHER_TOKENS):
        if config.get(key) is not None:
            token = _token(config[key])
            options[key] = texts.get(_text(token), token)
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens")
    if extra:
        options["extra_special_tokens"] = [_token(token) for token in extra]
    for key in ("padding_side", "truncation_side", "split_special_tokens"):
        if config.get(key) is not None:
            options[key] = config[key]
    longest = config.get("model_max_length") or config.get("max_len")
    if longest is not None:
        options["model_max_length"] = int(min(longest, MAX_VOCABULARY))
    return options


def _optional(folder: Path, name: str) -> Config:
    if not (folder / name).is_file():
        return {}
    return read_config(folder / name, called=f"{folder.name}/{name}")


def _listed_tokens(config: Config, called: str) -> dict[int, Token] | None:
    listed = config.get("added_tokens_decoder")
    if listed is None:
        return None
    tokens: dict[int, Token] = _convert(dict[TokenId, Token], listed, called)
    return tokens


def _added_tokens(folder: Path, config: Config) -> dict[int, Token]:
    """Of `added_tokens.json`, from before transformers kept them elsewhere."""
    called = f"{folder.name}/added_tokens.json"
    numbers = _convert(Vocabulary, _optional(folder, "added_tokens.json"), called)
    keys = (*NAMED_TOKENS, *OTHER_TOKENS)
    named = {_text(_token(config[key])) for key in keys if config.get(key)}
    named |= {_text(_token(token)) for token in config.get("extra_special_tokens") or ()}
    return {
        number: Token(text, normalized=text not in named, special=text in named)
        for text, number in numbers.items()
    }


def _convert(kind: Any, value: Any, called: str) -> Any:
    try:
        return msgspec.convert(value, type=kind, str_keys=True)
    except msgspec.ValidationError:
        raise invalid(called, "lists tokens that are none") from None


def _special(value: Any) -> Any:
    return {**value, "special": True} if isinstance(value, dict) else value


def _token(value: Any) -> str | Token:
    """A token of a checked configuration."""
    return value if isinstance(value, str) else msgspec.convert(value, type=Token)


def _text(token: str | Token) -> str:
    return token if isinstance(token, str) else token.content


def _plain(token: _NumberedToken) -> Token:
    values = {field: getattr(token, field) for field in Token.__struct_fields__}
    return Token(**values)


def _pipeline(whole: _Whole) -> bytes:
    parts = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    return msgspec.json.encode(
        {"version": "1.0", "model": empty, "added_tokens": []}
        | {part: getattr(whole, part) for part in parts}
    )
