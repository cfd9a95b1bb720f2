"""Tokens of a tokenizer's files, typed and of bounded size."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from domains.model.backends.component_config import invalid
from domains.model.backends.families.clip import MAX_VOCABULARY

TokenText = Annotated[str, Meta(max_length=512)]
TokenId = Annotated[int, Meta(ge=0, lt=MAX_VOCABULARY)]
Vocabulary = dict[TokenText, TokenId]


class Token(msgspec.Struct, frozen=True):
    """A token with the way it is matched; fields as in `tokenizers.AddedToken`."""

    content: Annotated[str, Meta(min_length=1, max_length=512)]
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool = False


class NumberedToken(Token, frozen=True):
    """A token with its place beside the vocabulary."""

    id: TokenId = 0

    def plain(self) -> Token:
        """The same without its number."""
        return Token(**{name: getattr(self, name) for name in Token.__struct_fields__})


def token_of(value: Any) -> str | Token:
    """A token of a checked configuration."""
    return value if isinstance(value, str) else msgspec.convert(value, type=Token)


def text_of(token: str | Token) -> str:
    """A token's text."""
    return token if isinstance(token, str) else token.content


def converted(kind: Any, value: Any, called: str) -> Any:
    """A part of a configuration as a type of this module; `called` names its file.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
    """
    try:
        return msgspec.convert(value, type=kind, str_keys=True)
    except msgspec.ValidationError:
        raise invalid(called, "lists tokens that are none") from None
