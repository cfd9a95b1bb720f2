"""Files of `torch.save` before torch 1.6: pickles one after another, then raw numbers.

A magic number, a protocol version, facts about the machine, the value, the list of storage
keys, and for each key how many numbers there are (eight bytes) and the numbers
(torch/serialization.py, `_legacy_save`).
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

from domains.model.backends.inspector.pickle_program import read_program
from domains.model.backends.inspector.pickled import Storage
from domains.model.backends.inspector.refusals import (
    bad_header,
    bad_shape,
    bad_structure,
    truncated,
    unsupported,
)
from domains.model.backends.inspector.tensors import tensors_within
from domains.model.backends.inspector.torch_archive import Spans
from domains.model.backends.safetensors_header import ELEMENT_BITS, MAX_TENSORS

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT_BYTES = 8


def read_legacy(file: BinaryIO, file_bytes: int) -> tuple[Any, Spans]:
    """What a file describes, and where its storages lie.

    Raises:
        FailedPrecondition: MODEL_FORMAT_UNSUPPORTED, MODEL_TRUNCATED, MODEL_SHAPE_INVALID, or
            what `read_program` raises.
    """
    if read_program(file) != _MAGIC:
        raise unsupported("is a pickle that torch did not write; get the model as safetensors")
    if read_program(file) != _PROTOCOL:
        raise unsupported("was written by a torch that is not known")
    machine = read_program(file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise unsupported("holds numbers of a machine that writes them the other way round")
    value, keys = read_program(file), read_program(file)
    if not isinstance(keys, list) or len(keys) > MAX_TENSORS:
        raise bad_header("has no list of its storages")
    sizes = _sizes(value)
    spans: dict[str, tuple[int, int]] = {}
    for key in keys:
        raw = file.read(_COUNT_BYTES)
        if len(raw) < _COUNT_BYTES:
            raise truncated()
        if not isinstance(key, str) or key in spans or key not in sizes:
            # Without its type nobody knows where the next one begins.
            raise bad_structure("has numbers that belong to no tensor")
        (count,) = struct.unpack("<q", raw)
        begin, size = file.tell(), count * sizes[key]
        if count < 0:
            raise bad_shape("", "of impossible size")
        if begin + size > file_bytes:
            raise truncated()
        spans[key] = (begin, size)
        file.seek(begin + size)
    return value, spans


def _sizes(value: Any) -> dict[str, int]:
    """Bytes of one number of each storage, by key."""
    found: dict[str, int] = {}
    for tensor in tensors_within(value):
        storage: Storage = tensor.storage
        size = ELEMENT_BITS[storage.data_type] // 8
        if found.setdefault(storage.key, size) != size:
            raise bad_structure("gives the same numbers two types")
    return found
