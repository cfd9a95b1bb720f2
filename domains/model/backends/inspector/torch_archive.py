"""Files of `torch.save` since torch 1.6: a zip archive that stores a pickle and raw numbers.

Its entries lie below one folder: `data.pkl` describes the tensors, `data/<key>` is the storage
of that key, `byteorder` says how numbers lie. Nothing is compressed
(caffe2/serialize/inline_container.cc), so a storage is a span of the file itself.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

from domains.model.backends.inspector.pickle_program import MAX_PROGRAM_BYTES, read_program
from domains.model.backends.inspector.refusals import (
    bad_archive,
    too_large,
    truncated,
    unsupported,
)

MAX_ENTRIES = 20_000
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x1
_END = b"PK\x05\x06"
_END_BYTES = 22
_LONGEST_COMMENT = 1 << 16
_COUNT_UNKNOWN = 0xFFFF  # the count stands in the zip64 record then

Span = tuple[int, int]
Spans = Mapping[str, Span]
"""Of each storage, by key: where its bytes begin in the file, and how many there are."""


def read_archive(file: BinaryIO, file_bytes: int) -> tuple[Any, Spans]:
    """What an archive describes, and where its storages lie.

    Raises:
        FailedPrecondition: MODEL_TRUNCATED, MODEL_ARCHIVE_INVALID, MODEL_FORMAT_UNSUPPORTED,
            MODEL_HEADER_TOO_LARGE, or what `read_program` raises.
    """
    _check_end(file, file_bytes)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise bad_archive("cannot be read") from error
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise bad_archive(f"has more than {MAX_ENTRIES} entries")
    spans: dict[str, Span] = {}
    for entry in entries:
        _check_entry(entry)
        if entry.filename in spans:
            raise bad_archive("has two entries of one name")
        spans[entry.filename] = _span(file, entry, file_bytes)
    _check_apart(spans)
    folder = _folder(spans)
    if _content(file, spans.get(f"{folder}/byteorder", (0, 0))).strip() == b"big":
        raise unsupported("holds numbers of a machine that writes them the other way round")
    value = read_program(io.BytesIO(_content(file, spans[f"{folder}/data.pkl"])))
    prefix = f"{folder}/data/"
    keys = {n.removeprefix(prefix): span for n, span in spans.items() if n.startswith(prefix)}
    return value, keys


def _check_end(file: BinaryIO, file_bytes: int) -> None:
    """Refuse a file that lost its end, or whose list is long, before the list is read."""
    tail = min(file_bytes, _END_BYTES + _LONGEST_COMMENT)
    file.seek(file_bytes - tail)
    end = file.read(tail)
    place = end.rfind(_END)
    if place < 0 or len(end) - place < _END_BYTES:
        raise truncated("is an archive without its end")
    (count,) = struct.unpack_from("<H", end, place + 10)
    if count > MAX_ENTRIES and count != _COUNT_UNKNOWN:
        raise bad_archive(f"has more than {MAX_ENTRIES} entries")
    file.seek(0)


def _content(file: BinaryIO, span: Span) -> bytes:
    """The bytes of a small entry."""
    if span[1] > MAX_PROGRAM_BYTES:
        raise too_large("has a description of more than 16 MiB")
    file.seek(span[0])
    return file.read(span[1])


def _check_entry(entry: zipfile.ZipInfo) -> None:
    if entry.flag_bits & _ENCRYPTED:
        raise bad_archive("is encrypted")
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise bad_archive("is compressed, which torch never does")
    names = entry.filename.split("/")
    if not all(names) or {".", ".."} & set(names) or "\\" in entry.filename or "\0" in names[0]:
        raise bad_archive("has an entry with an unsafe name")


def _span(file: BinaryIO, entry: zipfile.ZipInfo, file_bytes: int) -> Span:
    """Where an entry's bytes lie, by its own header and not by the list alone."""
    if not 0 <= entry.header_offset <= file_bytes:
        raise bad_archive("has an entry outside the file")
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise bad_archive("has an entry outside the file")
    signature, *fields = _LOCAL_HEADER.unpack(header)
    begin = entry.header_offset + _LOCAL_HEADER.size + fields[-2] + fields[-1]
    if signature != b"PK\x03\x04" or begin + entry.file_size > file_bytes:
        raise bad_archive("has an entry outside the file")
    return begin, entry.file_size


def _check_apart(spans: Spans) -> None:
    """Entries that share bytes would let a small file describe a large one."""
    position = 0
    for begin, size in sorted(spans.values()):
        if begin < position:
            raise bad_archive("has entries that lie in each other")
        position = begin + size


def _folder(spans: Spans) -> str:
    """The folder that everything lies in."""
    programs = [name for name in spans if name.count("/") == 1 and name.endswith("/data.pkl")]
    inside = {name.partition("/")[2] for name in spans}
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        raise unsupported(
            "is a TorchScript program, which is never run; get the model's weights instead"
        )
    if len(programs) != 1:
        raise unsupported("is an archive, and not one of weights")
    return programs[0].partition("/")[0]
