"""Tensors out of checked safetensors files.

The bytes are read, not mapped: a file that shrinks while it is open is then an error
instead of a crash of the process, and the header that was checked is the one that is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from io import FileIO

import torch

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.diffusers_folder import WeightFile
from domains.model.backends.safetensors_header import TensorEntry, parse_header

TORCH_TYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
}
# A read this long takes a fraction of a second, so a stop is noticed soon.
_READ_BYTES = 32 << 20


def read_tensors(
    file: WeightFile, *, on_bytes: Callable[[int], None]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of a file in file order, on the CPU and in its stored type.

    Args:
        file: With its header as it was checked; the file must still have it.
        on_bytes: Called after each read with its number of bytes; may raise to stop.

    Raises:
        FailedPrecondition: MODEL_TRUNCATED when the file changed since it was checked,
            MODEL_DTYPE_UNSUPPORTED for a type torch cannot hold.
        PathOutsideRoot: It has become a link that leads outside its root.
        OSError: The machine cannot read it at the moment.
    """
    with file.open() as opened:
        if parse_header(opened, os.fstat(opened.fileno()).st_size) != file.header:
            raise _changed()
        for entry in file.header.tensors:
            yield entry.name, _read(opened, entry, on_bytes)


def _read(file: FileIO, entry: TensorEntry, on_bytes: Callable[[int], None]) -> torch.Tensor:
    data_type = TORCH_TYPES.get(entry.data_type)
    if data_type is None:
        raise FailedPrecondition(
            f"The model holds tensors of type {entry.data_type}, which cannot be used.",
            reason=Reason.MODEL_DTYPE_UNSUPPORTED,
        )
    flat = torch.empty(entry.size_bytes, dtype=torch.uint8)
    target = memoryview(flat.numpy())  # type: ignore[arg-type]
    file.seek(entry.offset)
    done = 0
    while done < entry.size_bytes:
        count = file.readinto(target[done : done + _READ_BYTES])
        if not count:
            raise _changed()
        done += count
        on_bytes(count)
    return flat.view(data_type).reshape(entry.shape)


def _changed() -> FailedPrecondition:
    return FailedPrecondition(
        "A weight file changed while it was being read; try again once it is complete.",
        reason=Reason.MODEL_TRUNCATED,
    )
