"""What a CLIP tokenizer's configuration may say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domains.model.backends.bounds import (
    ConfigBounds,
    Flag,
    Line,
    Many,
    Number,
    OrNull,
    Unused,
    words,
)

NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
"""Tokens that encoding text needs."""
OTHER_TOKENS = ("sep_token", "cls_token", "mask_token")
_TOKEN_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")
_TYPE_MARK = "__type"
_LONGEST_TOKEN = 512


@dataclass(frozen=True)
class TokenBound:
    """A token: its text, or an object of its text and how it is matched."""

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        if isinstance(value, dict):
            if set(value) - {"content", _TYPE_MARK, *_TOKEN_FLAGS}:
                return "has unknown keys"
            if any(not isinstance(value.get(flag, False), bool) for flag in _TOKEN_FLAGS):
                return "has a flag that is not true or false"
            value = value.get("content")
        if not isinstance(value, str):
            return "is no token"
        return "" if 1 <= len(value) <= _LONGEST_TOKEN else "is too long or empty"


_TOKEN = TokenBound()


def _known_tokens(config: Mapping[str, Any]) -> str:
    """The library takes any key of such a name for one more special token."""
    for key, value in config.items():
        if key.endswith("_token") and key not in TOKENIZER.keys and value:
            return "names a special token that CLIP does not have"
    return ""


_MAX_PARTS = 16
_PARTS = {
    "normalizer": words(
        "BertNormalizer",
        "ByteLevel",
        "Lowercase",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Precompiled",
        "Prepend",
        "Replace",
        "Strip",
        "StripAccents",
    ),
    "pre_tokenizer": words(
        "BertPreTokenizer",
        "ByteLevel",
        "CharDelimiterSplit",
        "Digits",
        "FixedLength",
        "Metaspace",
        "Punctuation",
        "Split",
        "UnicodeScripts",
        "Whitespace",
        "WhitespaceSplit",
    ),
    "post_processor": words(
        "BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing"
    ),
    "decoder": words(
        "BPEDecoder",
        "ByteFallback",
        "ByteLevel",
        "CTC",
        "Fuse",
        "Metaspace",
        "Replace",
        "Strip",
        "WordPiece",
    ),
}
_SEQUENCES = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
    "decoder": "decoders",
}


@dataclass(frozen=True)
class PartBound:
    """A part of `tokenizer.json`, or a sequence of such: its type must be known."""

    name: str
    alone: bool = False

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        if value is None and not self.alone:
            return ""
        if not isinstance(value, dict):
            return "is no object"
        if value.get("type") != "Sequence" or self.alone:
            return _PARTS[self.name].problem(value.get("type"))
        return Many(PartBound(self.name, alone=True), least=0, most=_MAX_PARTS).problem(
            value.get(_SEQUENCES[self.name])
        )


PIPELINE = ConfigBounds({name: PartBound(name) for name in _PARTS})
"""Of what surrounds the vocabulary in `tokenizer.json`."""

SPECIAL_TOKENS = ConfigBounds(
    {
        **dict.fromkeys(NAMED_TOKENS, _TOKEN),
        **dict.fromkeys(OTHER_TOKENS, OrNull(_TOKEN)),
        "additional_special_tokens": OrNull(Many(_TOKEN, least=0, most=64)),
        "extra_special_tokens": OrNull(Many(_TOKEN, least=0, most=64)),
    }
)
"""Of `special_tokens_map.json`, which older tokenizers have."""

TOKENIZER = ConfigBounds(
    {
        **SPECIAL_TOKENS.keys,
        "add_bos_token": Flag(),
        "add_eos_token": Flag(),
        "add_prefix_space": Flag(),
        "clean_up_tokenization_spaces": Flag(),
        "do_lower_case": Flag(),
        "errors": Line(),
        # They would have the library read other files than those that were checked.
        "fast_tokenizer_files": Unused(),
        "gguf_file": Unused(),
        "init_inputs": Unused(),
        "max_len": OrNull(Number(2, math.inf, closed=True)),
        "merges": Unused(),
        "model_max_length": OrNull(Number(2, math.inf, closed=True)),
        "model_specific_special_tokens": Unused(),
        "padding_side": words("left", "right"),
        "post_processor": Unused(),
        "split_special_tokens": Flag(),
        "tokenizer_class": OrNull(Line()),
        "tokenizer_object": Unused(),
        "truncation_side": words("left", "right"),
        "vocab": Unused(),
    },
    rules=(_known_tokens,),
)
"""Of `tokenizer_config.json`."""
