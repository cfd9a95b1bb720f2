"""How a tokenizer is set up: its configuration, and the files that older ones have instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from domains.model.backends.bounds import Config
from domains.model.backends.component_config import ConfigFiles, check_config, read_config
from domains.model.backends.families.clip import MAX_VOCABULARY
from domains.model.backends.families.tokenizer import (
    NAMED_TOKENS,
    OTHER_TOKENS,
    SPECIAL_TOKENS,
    TOKENIZER,
)
from domains.model.backends.tokens import (
    NumberedToken,
    Token,
    TokenId,
    Vocabulary,
    converted,
    text_of,
    token_of,
)

_START, _END = "<|startoftext|>", "<|endoftext|>"
_DEFAULTS = {
    "bos_token": _START,
    "eos_token": _END,
    "unk_token": _END,
    "pad_token": _END,
}
_COPIED = ("padding_side", "truncation_side", "split_special_tokens")


@dataclass(frozen=True)
class TokenizerOptions:
    """Arguments of the library's class, and tokens beside the vocabulary by their number.

    Tokens among the arguments are texts or `Token`s.
    """

    arguments: Mapping[str, Any]
    added: Mapping[int, Token]

    @property
    def unknown(self) -> str:
        """The token that stands for unknown text."""
        return text_of(self.arguments["unk_token"])

    @property
    def texts(self) -> set[str]:
        """Of every token that is named here, whether the vocabulary has it or not."""
        keys = (*NAMED_TOKENS, *OTHER_TOKENS)
        named = [self.arguments[key] for key in keys if key in self.arguments]
        extra = self.arguments.get("extra_special_tokens", ())
        return {text_of(token) for token in (*named, *extra, *self.added.values())}


def read_options(
    files: ConfigFiles,
    folder: str,
    sides: Mapping[str, str],
    listed: Iterable[NumberedToken],
) -> TokenizerOptions:
    """Read the configuration of a tokenizer's folder.

    Args:
        files: The model's files.
        folder: The tokenizer's folder in the model.
        sides: What its `tokenizer.json` says of sides, for what the configuration leaves out.
        listed: The added tokens of its `tokenizer.json`.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
    """
    called = f"{folder}/tokenizer_config.json"
    config = _optional(files, folder, "tokenizer_config.json")
    check_config(config, TOKENIZER, called=called)
    added: dict[int, Token]
    if config.get("added_tokens_decoder") is not None:
        added = converted(dict[TokenId, Token], config["added_tokens_decoder"], called)
    else:
        special = _optional(files, folder, "special_tokens_map.json")
        check_config(special, SPECIAL_TOKENS, called=f"{folder}/special_tokens_map.json")
        config |= {key: _special(value) for key, value in special.items()}
        added = _added_tokens(files, folder, config)
        added |= {token.id: token.plain() for token in listed}
    return TokenizerOptions(_DEFAULTS | dict(sides) | _arguments(config, added), added)


def _arguments(config: Config, added: Mapping[int, Token]) -> Config:
    arguments = {key: config[key] for key in _COPIED if config.get(key) is not None}
    known = {token.content: token for token in added.values()}
    for key in (*NAMED_TOKENS, *OTHER_TOKENS):
        if config.get(key) is not None:
            token = token_of(config[key])
            arguments[key] = known.get(text_of(token), token)
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens")
    if extra:
        arguments["extra_special_tokens"] = [token_of(token) for token in extra]
    longest = config.get("model_max_length") or config.get("max_len")
    if longest is not None:
        arguments["model_max_length"] = int(min(longest, MAX_VOCABULARY))
    return arguments


def _optional(files: ConfigFiles, folder: str, name: str) -> Config:
    path = f"{folder}/{name}"
    return read_config(files, path) if files.has_file(path) else {}


def _added_tokens(files: ConfigFiles, folder: str, config: Config) -> dict[int, Token]:
    """Of `added_tokens.json`, from before transformers kept them elsewhere."""
    called = f"{folder}/added_tokens.json"
    numbers = converted(Vocabulary, _optional(files, folder, "added_tokens.json"), called)
    keys = (*NAMED_TOKENS, *OTHER_TOKENS)
    named = {text_of(token_of(config[key])) for key in keys if config.get(key)}
    named |= {text_of(token_of(token)) for token in config.get("extra_special_tokens") or ()}
    return {
        number: Token(text, normalized=text not in named, special=text in named)
        for text, number in numbers.items()
    }


def _special(value: Any) -> Any:
    return {**value, "special": True} if isinstance(value, dict) else value
