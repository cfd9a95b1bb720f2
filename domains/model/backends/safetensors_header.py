"""The header of a safetensors file, checked before a byte of tensor data is touched.

Format: an 8-byte little-endian length, that many bytes of JSON, then the data. The
safetensors library refuses overlapping tensors, gaps and wrong sizes as this reader does;
it accepts duplicate keys, names of any form, any number of tensors and headers of 100 MB,
and says only in its own words what is wrong. Plain Python, so any process may use it.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple, NoReturn

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.header_json import METADATA, HeaderText
from domains.model.backends.remembered import Remembered

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 20_000
_MOST_OBJECTS = MAX_TENSORS + 8
MAX_DIMENSIONS = 8
MAX_DIMENSION = 1 << 31
MAX_METADATA_ENTRIES = 4_096
# Bits per element, without the four- and six-bit types, which nothing here computes with.
ELEMENT_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
_KNOWN_BUT_UNSUPPORTED = re.compile(r"[A-Z][A-Z0-9_]{0,15}")
_A_FILE = "A weight file"
_NAME = re.compile(r"[\x21-\x7e]{1,512}")


class TensorEntry(NamedTuple):
    """One tensor: `offset` is in bytes from the start of the file, if no `Table` holds it. A
    dimension may be 0."""

    name: str
    data_type: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int

    @property
    def parameter_count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Table(NamedTuple):
    """Checked tensors in the order of their bytes, for data of `size_bytes`; their offsets are
    from the start of the data."""

    tensors: tuple[TensorEntry, ...]
    size_bytes: int = 0


@dataclass(frozen=True)
class Header:
    """What a file of `size_bytes` bytes holds, whose tensors' data begin at `data_start`.

    `digest` tells whether another file begins with the same header; `layout` whether it has the
    same tensors in the same order, whatever its metadata are, and is empty where that is not
    known.
    """

    table: Table
    metadata: dict[str, str]
    size_bytes: int
    digest: bytes
    layout: bytes = b""
    data_start: int = 0

    # Of thousands of files with one layout nobody asks.
    @cached_property
    def tensors(self) -> tuple[TensorEntry, ...]:
        """Its tensors in the order of their bytes, with their places in the file."""
        return tuple(
            TensorEntry(name, kind, shape, self.data_start + offset, size)
            for name, kind, shape, offset, size in self.table.tensors
        )


# A folder of LoRAs has few layouts: what one trainer writes differs in metadata and numbers.
# Larger tables are those of whole models, of which nobody has thousands.
_MOST_REMEMBERED = 3_000
_TABLES: Remembered[Table] = Remembered(32)


def read_header(files: ConfinedFiles, name: str = "") -> Header:
    """Open a file of a model, or the model that is a file, and check its header.

    Raises:
        FailedPrecondition: As `parse_header`, naming the file, and `ConfinedFiles.open`.
        PathOutsideRoot: It is a link that leads outside its root.
        OSError: The machine cannot read it at the moment.
    """
    with files.open(name) as file:
        try:
            return parse_header(file, os.fstat(file.fileno()).st_size)
        except FailedPrecondition as error:
            if not name:
                raise
            message = error.message.replace(_A_FILE, f"The model's {name}", 1)
            named = error.metadata | {"file": name}
            raise FailedPrecondition(message, reason=error.reason, metadata=named) from None


def parse_header(file: BinaryIO, file_bytes: int) -> Header:
    """Read and check the header of a file of `file_bytes` bytes, opened at its start.

    Afterwards every tensor lies inside the file, none overlap, no gap is left, and each
    size follows from its shape and type.

    Raises:
        FailedPrecondition: MODEL_TRUNCATED, MODEL_HEADER_TOO_LARGE,
            MODEL_HEADER_INVALID, MODEL_SHAPE_INVALID, MODEL_DTYPE_UNSUPPORTED,
            MODEL_TENSOR_NAME_INVALID or MODEL_FORMAT_UNSUPPORTED.
    """
    start = file.read(8)
    _refuse_other_formats(start)
    if len(start) < 8:
        _refuse(Reason.MODEL_TRUNCATED, "is shorter than a header")
    (header_bytes,) = struct.unpack("<Q", start)
    if header_bytes > MAX_HEADER_BYTES:
        _refuse(Reason.MODEL_HEADER_TOO_LARGE, "has a header that is too large")
    if header_bytes < 2 or 8 + header_bytes > file_bytes:
        _refuse(Reason.MODEL_TRUNCATED, "ends inside its header")
    raw = file.read(header_bytes)
    if len(raw) != header_bytes:
        _refuse(Reason.MODEL_TRUNCATED, "ends inside its header")
    # Counting brackets bounds the parser's work before it starts.
    if header_bytes > _MOST_OBJECTS and (
        raw.count(b"{") > _MOST_OBJECTS or raw.count(b"[") > 4 * MAX_TENSORS + 16
    ):
        _refuse(Reason.MODEL_HEADER_TOO_LARGE, "lists too many tensors")
    data_start = 8 + header_bytes
    whole = digest(start + raw)
    table, metadata, layout = _parse(raw, whole)
    end = data_start + table.size_bytes
    if end > file_bytes:
        _refuse(Reason.MODEL_TRUNCATED, "ends before its tensors do")
    if end < file_bytes:
        _refuse(Reason.MODEL_SHAPE_INVALID, "has bytes that belong to no tensor")
    return Header(table, metadata, file_bytes, whole, layout, data_start)


def digest(raw: bytes | bytearray) -> bytes:
    """Stands for the bytes of a file before its tensors' data."""
    return hashlib.blake2b(raw, digest_size=16).digest()


def _refuse(reason: Reason, what: str, advice: str = "fetch the model again") -> NoReturn:
    raise FailedPrecondition(f"{_A_FILE} {what}; {advice}.", reason=reason)


def _refuse_other_formats(start: bytes) -> None:
    """Name the common mistakes: a pickle, an archive, a web page, an unfetched LFS file."""
    if start.startswith(b"version "):
        _refuse(
            Reason.MODEL_FORMAT_UNSUPPORTED,
            "is a Git LFS pointer and no weights",
            "run git lfs pull where it was cloned",
        )
    if start.startswith((b"PK\x03\x04", b"GGUF", b"<!DOCTYP", b"<html")) or (
        start[:1] == b"\x80"
        and start[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}
        and start[2:8] != bytes(6)
    ):
        _refuse(Reason.MODEL_FORMAT_UNSUPPORTED, "is not in the safetensors format")


def _parse(raw: bytes, layout: bytes) -> tuple[Table, dict[str, str], bytes]:
    """Tensors, metadata and the digest of the layout: of the text behind the metadata, or
    `layout` where there are none."""
    metadata: dict[str, str] = {}
    tensors: list[TensorEntry] = []
    if (known := _TABLES.get(layout)) is not None:
        return known, metadata, layout
    try:
        header = HeaderText(raw.decode("utf-8"))

        def read(name: str) -> Any:
            if name != METADATA:
                return header.entry()
            for key, value in header.members(lambda _key: header.text()):
                metadata[key] = value
                if len(metadata) > MAX_METADATA_ENTRIES:
                    raise ValueError("too many texts")
            return None

        for name, value in header.members(read):
            if name == METADATA:
                # Metadata amid the tensors: no text is that of the tensors alone.
                layout = b"" if tensors else digest(header.rest().encode())
                if (known := _TABLES.get(layout)) is not None:
                    return known, metadata, layout
                continue
            tensors.append(_entry(name, value))
            if len(tensors) > MAX_TENSORS:
                _refuse(Reason.MODEL_HEADER_TOO_LARGE, "lists too many tensors")
        header.end()
    except (ValueError, RecursionError):
        _refuse(Reason.MODEL_HEADER_INVALID, "has a header that cannot be read")
    table = _checked(tensors)
    if layout and len(tensors) <= _MOST_REMEMBERED:
        _TABLES.keep(layout, table)
    return table, metadata, layout


def _checked(tensors: list[TensorEntry]) -> Table:
    if not tensors:
        _refuse(Reason.MODEL_HEADER_INVALID, "holds no tensors")
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.size_bytes))
    position = 0
    for tensor in tensors:
        if tensor.offset != position:
            _refuse(Reason.MODEL_SHAPE_INVALID, "has overlapping tensors or gaps")
        position += tensor.size_bytes
    return Table(tuple(tensors), position)


def _entry(name: str, value: Any) -> TensorEntry:
    if not _NAME.fullmatch(name) or ".." in name or "/" in name or "\\" in name:
        _refuse(Reason.MODEL_TENSOR_NAME_INVALID, "has a tensor with an unsafe name")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        _refuse(Reason.MODEL_HEADER_INVALID, "describes a tensor in an unknown way")
    data_type, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(data_type, str) or not isinstance(shape, list):
        _refuse(Reason.MODEL_HEADER_INVALID, "describes a tensor in an unknown way")
    if data_type not in ELEMENT_BITS:
        known = _KNOWN_BUT_UNSUPPORTED.fullmatch(data_type)
        _refuse(
            Reason.MODEL_DTYPE_UNSUPPORTED,
            f"holds tensors of type {data_type if known else 'unknown'}",
        )
    if len(shape) > MAX_DIMENSIONS or any(
        type(size) is not int or not 0 <= size <= MAX_DIMENSION for size in shape
    ):
        _refuse(Reason.MODEL_SHAPE_INVALID, "has a tensor of impossible shape")
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or any(type(offset) is not int or offset < 0 for offset in offsets)
    ):
        _refuse(Reason.MODEL_SHAPE_INVALID, "has a tensor at an impossible place")
    size_bytes = math.prod(shape) * ELEMENT_BITS[data_type] // 8
    if offsets[1] - offsets[0] != size_bytes:
        _refuse(Reason.MODEL_SHAPE_INVALID, "has a tensor whose size is not its shape's")
    return TensorEntry(name, data_type, tuple(shape), offsets[0], size_bytes)
