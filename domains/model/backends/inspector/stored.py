"""Tensors as they lie in a file of any kind, read in pieces of bounded size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from domains.model.backends.inspector.number_types import Array, bits_type
from domains.model.backends.inspector.pickled import PickledTensor, elements
from domains.model.backends.inspector.refusals import (
    bad_shape,
    bad_structure,
    truncated,
    unsupported,
)
from domains.model.backends.inspector.tensors import state_dict
from domains.model.backends.inspector.torch_archive import Spans, read_archive
from domains.model.backends.inspector.torch_legacy import read_legacy
from domains.model.backends.safetensors_header import (
    ELEMENT_BITS,
    MAX_DIMENSION,
    MAX_DIMENSIONS,
    parse_header,
)

CHUNK_BYTES = 8 << 20
# Where the same numbers stand under two names, both get them. More than that is no sharing.
_MOST_COPIES = 3
_SLACK_BYTES = 1 << 20
_PAGES = (b"<!doctype", b"<html", b"<?xml")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor: `offset` is where its first number lies in the file, `strides` count numbers;
    None means that they follow each other."""

    name: str
    data_type: str
    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return elements(self.shape)

    @property
    def size_bytes(self) -> int:
        """Their size."""
        return self.count * ELEMENT_BITS[self.data_type] // 8


@dataclass(frozen=True)
class Weights:
    """What a file holds: its tensors, the texts of its header, and what is left out of it."""

    tensors: tuple[StoredTensor, ...]
    metadata: dict[str, str]
    left_out: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.size_bytes for tensor in self.tensors)


def read_weights(file: BinaryIO, *, pickle: bool) -> Weights:
    """The tensors of a file, each within it, without reading their numbers.

    Args:
        file: Opened for reading.
        pickle: Whether it is one of torch's files, by its name; otherwise safetensors.

    Raises:
        FailedPrecondition: Any MODEL_ reason of files.
    """
    file_bytes = os.fstat(file.fileno()).st_size
    if not pickle:
        header = parse_header(file, file_bytes)
        found = (StoredTensor(t.name, t.data_type, t.shape, t.offset) for t in header.tensors)
        return Weights(tuple(found), header.metadata)
    start = file.read(64)
    file.seek(0)
    _refuse_other_formats(start)
    read = read_archive if start.startswith(b"PK") else read_legacy
    value, spans = read(file, file_bytes)
    tensors, left_out = state_dict(value)
    stored = tuple(_placed(name, tensor, spans) for name, tensor in tensors.items())
    weights = Weights(stored, {}, tuple(left_out))
    if weights.size_bytes > _MOST_COPIES * file_bytes + _SLACK_BYTES:
        raise bad_structure("describes many times more numbers than it holds")
    return weights


def _refuse_other_formats(start: bytes) -> None:
    """What lies under a pickle's name and is none."""
    if not start:
        raise truncated("is empty")
    if start.lstrip().lower().startswith(_PAGES):
        raise unsupported("is a web page; log in where you got it and download the model again")
    if start.startswith(b"version https://git-lfs"):
        raise unsupported("is a pointer of Git LFS; fetch the file itself (git lfs pull)")
    if start[8:9] == b"{":
        raise unsupported("is in the safetensors format; give it the ending .safetensors")
    if not start.startswith((b"PK", b"\x80")):
        raise unsupported("is no file of torch")


def _placed(name: str, tensor: PickledTensor, spans: Spans) -> StoredTensor:
    """A tensor where it lies, once it is known to lie within its storage."""
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    span = spans.get(storage.key)
    if span is None:
        raise truncated("lacks numbers that it describes")
    size = ELEMENT_BITS[tensor.data_type] // 8
    if (storage.start + storage.count) * size > span[1]:
        raise bad_shape(name, "whose storage is larger than its bytes")
    if len(shape) > MAX_DIMENSIONS or any(edge > MAX_DIMENSION for edge in shape):
        raise bad_shape(name, "of impossible shape")
    last = sum((edge - 1) * stride for edge, stride in zip(shape, strides, strict=True))
    if elements(shape) and tensor.offset + last >= storage.count:
        raise bad_shape(name, "that does not lie within its numbers")
    offset = span[0] + (storage.start + tensor.offset) * size
    return StoredTensor(name, tensor.data_type, shape, offset, gaps(shape, strides))


def gaps(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides, or None where the numbers follow each other in order."""
    expected = 1
    for edge, stride in zip(reversed(shape), reversed(strides), strict=True):
        if edge not in (0, 1) and stride != expected:
            return strides
        expected *= edge
    return None


def numbers(file: BinaryIO, tensor: StoredTensor) -> Iterator[Array]:
    """A tensor's numbers in order, as the integers of their bits, in pieces.

    Raises:
        FailedPrecondition: MODEL_TRUNCATED when the file became shorter.
    """
    kind = bits_type(tensor.data_type)
    if tensor.strides is not None:
        yield from _gathered(file, tensor, tensor.strides, kind)
        return
    left, position = tensor.size_bytes, tensor.offset
    while left:
        piece = np.frombuffer(_read(file, position, min(left, CHUNK_BYTES)), kind)
        yield piece
        left -= piece.nbytes
        position += piece.nbytes


def _gathered(
    file: BinaryIO, tensor: StoredTensor, strides: tuple[int, ...], kind: np.dtype[Any]
) -> Iterator[Array]:
    """Numbers with gaps between them: what lies between is read as well."""
    if not tensor.count:
        return
    span = 1 + sum((e - 1) * s for e, s in zip(tensor.shape, strides, strict=True))
    whole = np.frombuffer(_read(file, tensor.offset, span * kind.itemsize), kind)
    steps = tuple(stride * kind.itemsize for stride in strides)
    window = np.lib.stride_tricks.as_strided(whole, tensor.shape, steps, writeable=False)
    yield np.ascontiguousarray(window).reshape(-1)


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    data = file.read(count)
    if len(data) != count:
        raise truncated("became shorter while it was read")
    return data
