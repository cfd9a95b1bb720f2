"""Text through one CLIP encoder; shared by the families that use CLIP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.inference.backends.denoise import Conditioning
from domains.inference.backends.inversions import Inversions, standing_in
from domains.inference.backends.loaded_model import LoadedModel, TextEmbedding
from domains.inference.backends.tokenizing import Chunk, Tokenized
from domains.inference.types import PromptSyntax
from domains.model.backends.library_errors import blamed_on
from domains.values import Degradation, DegradationKind
from domains.weighted_prompts import MOST_CHUNKS, Piece, parse_prompt


@dataclass(frozen=True)
class EncodedText:
    """Texts ready for the UNet.

    `cached` when no encoder had to run. `lost_tokens` counts tokens of the texts that
    lie beyond what is read and have no effect.
    """

    conditioning: Conditioning
    cached: bool
    lost_tokens: int

    @property
    def degradations(self) -> tuple[Degradation, ...]:
        """What is told of tokens that had no effect."""
        if not self.lost_tokens:
            return ()
        detail = f"The last {self.lost_tokens} tokens did not fit and had no effect."
        return (Degradation(DegradationKind.PROMPT_TRUNCATED, detail),)


@dataclass(frozen=True)
class ClipText:
    """A text as one encoder sees it, `[1, window, width]` for each chunk; `pooled` is the
    first one's."""

    chunks: tuple[torch.Tensor, ...]
    pooled: torch.Tensor | None
    lost_tokens: int


class ClipReader:
    """One text encoder of a model with its tokenizer, for one request.

    Weights are applied to what the encoder gives: a token of weight w becomes
    e + w (z - e), where z is its state and e that of the empty text at the same place of the
    window; one of weight 1 is left as it is, bit for bit.

    Args:
        model: Holds both parts by name.
        tokenizer: Its name in the model.
        encoder: Its name in the model.
        inversions: Words that stand for vectors of their own.
        final_norm: Whether an earlier layer's output goes through the encoder's last norm.
    """

    def __init__(
        self,
        model: LoadedModel,
        tokenizer: str,
        encoder: str,
        inversions: Inversions,
        *,
        final_norm: bool,
    ) -> None:
        self._model = model
        self._inversions = inversions
        self._tokenizer = model.tokenizers[tokenizer]
        self._encoder = encoder
        self._final_norm = final_norm
        self.ran = False
        """Whether the encoder had to run, as not everything was kept from before."""

    def read(self, text: str, syntax: PromptSyntax, layer: int) -> ClipText:
        """Run the encoder over each chunk of a text, alone, as a batch of one.

        Args:
            text: PLAIN is cut off where the window (77 tokens for CLIP) is full.
            syntax: How the text is read.
            layer: Which layer's output to take, from the end: 1 is the last.

        Raises:
            FailedPrecondition: MODEL_CONFIG_INVALID when either part fails for what it is
                made of.
        """
        tokenized = self._tokenized(text, syntax)
        seen = [self._seen(chunk, layer) for chunk in tokenized.chunks]
        weighed = [
            self._weighed(chunk, one.hidden_states, layer)
            for chunk, one in zip(tokenized.chunks, seen, strict=True)
        ]
        return ClipText(tuple(weighed), seen[0].pooled, tokenized.lost)

    def joined(self, text: ClipText, chunks: int, layer: int) -> torch.Tensor:
        """All chunks one after the other, `[1, chunks * window, width]`, chunks of the empty
        text where it has fewer."""
        missing = chunks - len(text.chunks)
        empty = [self._empty(layer)] * missing if missing else []
        return torch.cat([*text.chunks, *empty], dim=1)

    def _tokenized(self, text: str, syntax: PromptSyntax) -> Tokenized:
        if syntax is PromptSyntax.WEIGHTED:
            return self._tokenizer.encode_sections(
                parse_prompt(text), MOST_CHUNKS, self._inversions
            )
        if self._inversions.stand_in(text):
            return self._tokenizer.encode_sections([(Piece(text),)], 1, self._inversions)
        return self._tokenizer.encode(text)

    def _empty(self, layer: int) -> torch.Tensor:
        (chunk,) = self._tokenizer.encode("").chunks
        return self._seen(chunk, layer).hidden_states

    def _weighed(self, chunk: Chunk, states: torch.Tensor, layer: int) -> torch.Tensor:
        if not chunk.weighted:
            return states
        weights = torch.tensor(chunk.weights, device=states.device).reshape(1, -1, 1)
        empty = self._empty(layer).to(torch.float32)
        weighed = (states.to(torch.float32) - empty) * weights + empty
        return torch.where(weights == 1, states, weighed.to(states.dtype))

    def _seen(self, chunk: Chunk, layer: int) -> TextEmbedding:
        """A chunk through the encoder, or what is kept of it."""
        own = max(chunk.ids) >= self._tokenizer.vocab_size
        key = (self._encoder, chunk.ids, layer, self._inversions.key if own else ())
        found = self._model.embeddings.get(key)
        if found is None:
            self.ran = True
            found = self._run(chunk.ids, layer)
            self._model.embeddings.put(key, found)
        return found

    def _run(self, ids: Sequence[int], layer: int) -> TextEmbedding:
        model = self._model
        encoder: Any = model.networks[self._encoder]
        tokens = torch.tensor([ids], dtype=torch.int64, device=model.device)
        with (
            blamed_on(self._encoder, device=model.device),
            self._standing_in(encoder, tokens) as known,
        ):
            output = encoder(known, output_hidden_states=True)
        states = output.hidden_states[-layer]
        if self._final_norm:
            # Versions of transformers differ in where it is.
            norm = getattr(encoder, "text_model", encoder).final_layer_norm
            states = output[0] if layer == 1 else norm(states)
        # An encoder that projects its output to one vector gives that first.
        pooled = output[0] if output[0].dim() == 2 else None
        return TextEmbedding(states, pooled)

    @contextmanager
    def _standing_in(self, encoder: Any, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
        """The tokens as the encoder knows them; inside, vectors stand in for the others.

        An encoder that finds the end of a text by the greatest number would take one of those
        for it, so that they go in as the mark of the beginning.
        """
        first = self._tokenizer.vocab_size
        places = tokens >= first
        if not places.any():
            yield tokens
            return
        rows = self._inversions.rows(self._encoder)[tokens[places] - first]
        with standing_in(encoder, places, rows):
            yield tokens.masked_fill(places, self._tokenizer.library.bos_token_id)


def most_chunks(texts: Iterable[ClipText]) -> int:
    """How many chunks the longest has: all are given so many."""
    return max(len(text.chunks) for text in texts)


def check_clip_skip(model: LoadedModel, encoders: tuple[str, ...], layer: int) -> None:
    """Refuse to count back further than an encoder has layers.

    Args:
        model: Tells each encoder's number of layers.
        encoders: Their names.
        layer: The layer that would be taken, from the end: 1 is the last.

    Raises:
        InvalidArgument: FIELD_OUT_OF_RANGE on `clip_skip`.
    """
    fewest = min(model.plan_config(name)["num_hidden_layers"] for name in encoders)
    # The embeddings before the first layer count as an output too.
    if layer > fewest + 1:
        message = "clip_skip is greater than this model's text encoders have layers."
        raise InvalidArgument(
            message,
            violations=(FieldViolation("clip_skip", Reason.FIELD_OUT_OF_RANGE, message),),
        )
