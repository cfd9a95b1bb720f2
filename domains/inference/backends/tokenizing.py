"""Tokenizers from checked plans, and texts as numbers that their encoders know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from msgspec import structs
from tokenizers import AddedToken
from tokenizers import Tokenizer as Pipeline
from transformers import CLIPTokenizer

from domains.model.backends.library_errors import blamed_on
from domains.model.backends.tokenizer_files import TokenizerPlan, check_ids
from domains.model.backends.tokens import Token


@dataclass(frozen=True)
class Tokenized:
    """`ids` is int64 `[1, window]`; `wanted` counts the tokens of the whole text."""

    ids: torch.Tensor
    wanted: int


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer and the window and vocabulary of the encoder that it is for."""

    plan: TokenizerPlan
    library: Any
    window: int
    vocab_size: int

    def encode(self, text: str) -> Tokenized:
        """A text as numbers, cut and padded to the window.

        Raises:
            FailedPrecondition: MODEL_CONFIG_INVALID when the tokenizer fails, or gives a
                number that the encoder has no embedding for.
        """
        with blamed_on(self.plan.component):
            ids = self.library(
                text,
                padding="max_length",
                max_length=self.window,
                truncation=True,
                return_tensors="pt",
            ).input_ids
            wanted = len(self.library(text, truncation=False, verbose=False).input_ids)
        check_ids(self.plan, int(ids.max()), self.vocab_size)
        return Tokenized(ids, wanted)


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
