"""A textual inversion taken apart: the rows that it adds to each text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domains.errors import Reason
from domains.model.backends.lora.file import Finding
from domains.model.backends.safetensors_header import Header, TensorEntry

_ENCODERS = {
    "clip_l": "text_encoder",
    "clip_g": "text_encoder_2",
    "text_encoders_0": "text_encoder",
    "text_encoders_1": "text_encoder_2",
}


@dataclass(frozen=True)
class EmbeddingFile:
    """What a textual inversion adds.

    Attributes:
        rows: Vectors of its word, [count, width] or [width], by text encoder as a diffusers
            folder calls it.
        findings: What is wrong with the file by itself.
    """

    rows: Mapping[str, TensorEntry]
    findings: tuple[Finding, ...] = ()

    @property
    def count(self) -> int:
        """Vectors that its word stands for."""
        return max((_count(entry) for entry in self.rows.values()), default=0)


def parse_embedding(header: Header) -> EmbeddingFile:
    """Take an embedding apart by its header. Never raises for what is in it.

    Names are those of A1111, diffusers, kohya's trainers and SDXL's pairs.
    """
    named = {_ENCODERS[t.name]: t for t in header.tensors if t.name in _ENCODERS}
    if not named:
        first, *others = header.tensors
        findings = tuple(_unexpected(tensor.name) for tensor in others)
        return EmbeddingFile({"text_encoder": first}, findings)
    found = [_unexpected(t.name) for t in header.tensors if t.name not in _ENCODERS]
    counts = {_count(entry) for entry in named.values()}
    if len(counts) > 1:
        found.append(
            Finding(
                Reason.MODEL_SHAPE_INVALID,
                next(iter(named.values())).name,
                "Its text encoders get different numbers of vectors.",
            )
        )
    if "text_encoder" not in named:
        found.append(
            Finding(
                Reason.MODEL_INCOMPLETE,
                named["text_encoder_2"].name,
                "It has vectors for the second text encoder and none for the first.",
            )
        )
    return EmbeddingFile(named, tuple(found))


def _count(entry: TensorEntry) -> int:
    return entry.shape[0] if len(entry.shape) == 2 else 1


def _unexpected(name: str) -> Finding:
    return Finding(
        Reason.MODEL_INCOMPATIBLE, name, f"{name!r} is for no text encoder that is known here."
    )
