"""Writes a safetensors file out of stored tensors, and reads it again to compare."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from domains.codec import one_line
from domains.errors import DataLoss, FailedPrecondition, Reason
from domains.model.backends.header_json import METADATA
from domains.model.backends.inspector.number_types import (
    FLOATS,
    Array,
    converted,
    decoded,
)
from domains.model.backends.inspector.pickled import elements
from domains.model.backends.inspector.progress import Progress
from domains.model.backends.inspector.stored import StoredTensor, numbers
from domains.model.backends.safetensors_header import ELEMENT_BITS, parse_header
from domains.values import TensorDataType

_CODES = {
    TensorDataType.FLOAT32: "F32",
    TensorDataType.FLOAT16: "F16",
    TensorDataType.BFLOAT16: "BF16",
}
_ALIGNMENT = 8


Sources = Mapping[str, BinaryIO]
"""The files of a model, opened, by the names that they have in it."""


@dataclass(frozen=True)
class Source:
    """A tensor of a model's file, and the one number of that file that all of it is multiplied
    by, if there is one."""

    file: str
    tensor: StoredTensor
    scale: StoredTensor | None = None


@dataclass(frozen=True)
class Copied:
    """One tensor of the result: the numbers of its sources one after another, in its own
    type."""

    name: str
    shape: tuple[int, ...]
    data_type: str
    sources: tuple[Source, ...]

    @property
    def size_bytes(self) -> int:
        """Of its numbers in the result."""
        return elements(self.shape) * ELEMENT_BITS[self.data_type] // 8

    @property
    def source_bytes(self) -> int:
        """Of its numbers where they come from."""
        return sum(source.tensor.size_bytes for source in self.sources)


def code_of(stored: str, wanted: TensorDataType | None) -> str:
    """The type of a tensor's numbers in the result: integers stay as they are."""
    return stored if wanted is None or stored not in FLOATS else _CODES[wanted]


def header_of(tensors: list[Copied], metadata: Mapping[str, str]) -> bytes:
    """The file's beginning, as the safetensors library writes it: wide types first."""
    entries: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    position = 0
    for tensor in tensors:
        end = position + tensor.size_bytes
        entries[tensor.name] = {
            "dtype": tensor.data_type,
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def in_file_order(tensors: list[Copied]) -> list[Copied]:
    """The order in the file, in which every tensor lies on a multiple of its numbers' size."""
    return sorted(tensors, key=lambda t: (-ELEMENT_BITS[t.data_type], t.name))


def write(
    sources: Sources,
    target: Path,
    tensors: list[Copied],
    metadata: Mapping[str, str],
    progress: Progress,
) -> None:
    """Write a file, which must not exist yet, and bring it to the disk.

    Raises:
        FailedPrecondition: MODEL_NON_FINITE where a number is too large for its new type;
            MODEL_TENSOR_NAME_INVALID and others where the result could not be read.
        OSError: It cannot be written.
    """
    item = one_line(target.name, 200)
    with open(target, "xb") as file:
        file.write(header_of(tensors, metadata))
        for tensor in tensors:
            for piece, size in pieces(sources, tensor):
                file.write(memoryview(piece).cast("B"))  # type: ignore[arg-type]
                progress.add(item, size)
        file.flush()
        os.fsync(file.fileno())
    with open(target, "rb") as file:
        parse_header(file, os.fstat(file.fileno()).st_size)


def compare(sources: Sources, target: Path, tensors: list[Copied], progress: Progress) -> None:
    """Read the result and its source again, and compare every tensor.

    Raises:
        DataLoss: MODEL_CHECKSUM_MISMATCH: they differ, so the disk or the source changed.
    """
    item = one_line(target.name, 200)
    with open(target, "rb") as file:
        header = parse_header(file, os.fstat(file.fileno()).st_size)
        entries = {entry.name: entry for entry in header.tensors}
        for tensor in tensors:
            entry = entries[tensor.name]
            if (entry.shape, entry.data_type) != (tensor.shape, tensor.data_type):
                raise differs(tensor.name)
            file.seek(entry.offset)
            for piece, size in pieces(sources, tensor):
                written = np.frombuffer(file.read(piece.nbytes), piece.dtype)
                if not np.array_equal(written, piece):
                    raise differs(tensor.name)
                progress.add(item, size)


def pieces(sources: Sources, tensor: Copied) -> Iterator[tuple[Array, int]]:
    """Numbers of the result, and how many bytes of the sources they come from.

    Raises:
        FailedPrecondition: MODEL_NON_FINITE where one is too large for its new type.
    """
    for source in tensor.sources:
        file, stored = sources[source.file], source.tensor.data_type
        scale = None if source.scale is None else _number(file, source.scale)
        for bits in numbers(file, source.tensor):
            piece, whole = converted(bits, stored, tensor.data_type, scale)
            if not whole:
                raise _too_large(tensor)
            yield piece, bits.nbytes


def _number(file: BinaryIO, tensor: StoredTensor) -> float:
    """The only one of a tensor."""
    (bits,) = numbers(file, tensor)
    return float(decoded(bits, tensor.data_type)[0])


def _too_large(tensor: Copied) -> FailedPrecondition:
    return FailedPrecondition(
        f"A number of tensor {one_line(tensor.name, 200)} is too large for "
        f"{tensor.data_type} and would become infinite; choose BF16 or F32.",
        reason=Reason.MODEL_NON_FINITE,
        metadata={"tensor": one_line(tensor.name, 200)},
    )


def differs(name: str) -> DataLoss:
    """MODEL_CHECKSUM_MISMATCH: what was written is not what it was made of."""
    return DataLoss(
        f"Tensor {one_line(name, 200)} was read again and is another one: the file changed "
        "meanwhile, or the disk is failing. Nothing was kept; try again.",
        reason=Reason.MODEL_CHECKSUM_MISMATCH,
        metadata={"tensor": one_line(name, 200)},
    )
