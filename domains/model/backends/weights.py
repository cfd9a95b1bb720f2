"""Tensors out of checked safetensors files.

The bytes are read, not mapped: a file that shrinks while it is open is then an error
instead of a crash of the process, and the header that was checked is the one that is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator

import torch

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.file_bytes import FileBytes, OpenBytes, open_file
from domains.model.backends.model_plan import Origin, WeightFile
from domains.model.backends.safetensors_header import Header, TensorEntry, digest
from domains.model.backends.stored_weights import changed_meanwhile

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
with warnings.catch_warnings():
    # Torch cannot mark a tensor as read-only and says so, once; nobody writes to what is lent.
    # Here, since silence around each of thousands of tensors would take as long as they do.
    warnings.simplefilter("ignore", UserWarning)
    torch.frombuffer(b"\0", dtype=torch.uint8)
# A read this long takes a fraction of a second, so a stop is noticed soon.
_READ_BYTES = 32 << 20


def read_tensors(
    file: WeightFile,
    entries: Iterable[TensorEntry],
    *,
    on_bytes: Callable[[int], None],
    open_bytes: OpenBytes = open_file,
) -> Iterator[tuple[TensorEntry, torch.Tensor]]:
    """Read tensors of a file, in the order given, onto the CPU and in their stored type.

    What `open_bytes` lends is not copied: such a tensor is for reading, and only until the next
    one is asked for.

    Args:
        file: With its header as it was checked; the file must still have it.
        entries: Of that header.
        on_bytes: Called after each read with its number of bytes; may raise to stop.
        open_bytes: Where the file's bytes come from.

    Raises:
        FailedPrecondition: MODEL_TRUNCATED when the file changed since it was checked,
            MODEL_DTYPE_UNSUPPORTED for a type torch cannot hold.
        PathOutsideRoot: It has become a link that leads outside its root.
        OSError: The machine cannot read it at the moment.
    """
    with open_bytes(file) as opened:
        _check_same(opened, file.header)
        wanted = tuple(entries)
        opened.announce([(each.offset, each.size_bytes) for each in wanted if each.size_bytes])
        for entry in wanted:
            yield entry, _read(opened, entry, on_bytes)


def part_of(tensor: torch.Tensor, origin: Origin, device: torch.device) -> torch.Tensor:
    """What a network takes of a stored tensor, contiguous and on its device; see `Origin`."""
    taken = tensor if origin.rows is None else tensor[slice(*origin.rows)]
    part = taken.to(device)
    if part is taken and origin.rows is not None:
        # Its own memory: how a tensor is aligned can decide the last bit of a product.
        part = taken.clone()
    if origin.transposed:
        part = part.t()
    return part.reshape(origin.shape).contiguous()


def _check_same(opened: FileBytes, header: Header) -> None:
    length = header.tensors[0].offset
    if opened.size_bytes != header.size_bytes:
        raise changed_meanwhile()
    raw = bytearray(length)
    _read_all(opened, 0, memoryview(raw), lambda _count: None)
    if digest(raw) != header.digest:
        raise changed_meanwhile()


def _read(
    opened: FileBytes, entry: TensorEntry, on_bytes: Callable[[int], None]
) -> torch.Tensor:
    data_type = TORCH_TYPES.get(entry.data_type)
    if data_type is None:
        raise FailedPrecondition(
            f"The model holds tensors of type {entry.data_type}, which cannot be used.",
            reason=Reason.MODEL_DTYPE_UNSUPPORTED,
        )
    lent = opened.lend(entry.offset, entry.size_bytes) if entry.size_bytes else None
    if lent is not None:
        on_bytes(entry.size_bytes)
        borrowed = torch.frombuffer(lent, dtype=torch.uint8)
        return borrowed.view(data_type).reshape(entry.shape)
    flat = torch.empty(entry.size_bytes, dtype=torch.uint8)
    target = memoryview(flat.numpy())  # type: ignore[arg-type]
    _read_all(opened, entry.offset, target, on_bytes)
    return flat.view(data_type).reshape(entry.shape)


def _read_all(
    opened: FileBytes, offset: int, target: memoryview, on_bytes: Callable[[int], None]
) -> None:
    done = 0
    while done < len(target):
        count = opened.read_into(offset + done, target[done : done + _READ_BYTES])
        if not count:
            raise changed_meanwhile()
        done += count
        on_bytes(count)
