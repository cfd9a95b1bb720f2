"""An unfinished picture as values, and as a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta

from domains.chain.backends import kept_chain
from domains.chain.backends.kept_chain import KeptProgress
from domains.codec import FEW, Count, Sha256, Value
from domains.paused_work import NotKept, read_kept, write_kept

MOST_BYTES = 256 * 1024 * 1024
"""Of a kept picture's loops. Latents of the largest one are a megabyte; a scheduler keeps a
handful."""
_CPU = torch.device("cpu")
_TYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.uint8, torch.bool),
    )
}

Dimension = Annotated[int, Meta(ge=0, le=2**31)]


class KeptTensor(Value, frozen=True):
    """A tensor's numbers in the order of its shape, how they lay in memory, and whether in the
    device's: how they lie can decide the last bit of a product."""

    data_type: Annotated[str, Meta(max_length=16)]
    shape: Annotated[tuple[Dimension, ...], Meta(max_length=8)]
    strides: Annotated[tuple[Dimension, ...], Meta(max_length=8)]
    on_device: bool
    data: Annotated[bytes, Meta(max_length=MOST_BYTES)]

    def __post_init__(self) -> None:
        kind = _TYPES.get(self.data_type)
        if kind is None or len(self.data) != math.prod(self.shape) * kind.itemsize:
            raise ValueError("a tensor has the bytes of its type and shape")
        if len(self.strides) != len(self.shape) or not _dense(self.shape, self.strides):
            raise ValueError("a tensor lies in memory without gaps")

    @classmethod
    def of(cls, tensor: torch.Tensor) -> KeptTensor:
        """The numbers of `tensor`.

        Raises:
            NotKept: They are of a type that is not kept.
        """
        name = str(tensor.dtype).removeprefix("torch.")
        if name not in _TYPES:
            raise NotKept(f"its scheduler holds numbers of the type {name}")
        if not _dense(tensor.shape, tensor.stride()):
            tensor = tensor.contiguous()
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        return cls(
            name,
            tuple(tensor.shape),
            tensor.stride(),
            tensor.device.type != _CPU.type,
            flat.view(torch.uint8).numpy().tobytes(),
        )

    def tensor(self, device: torch.device) -> torch.Tensor:
        """The tensor again: on `device` if it was on one, else on the CPU."""
        kind = _TYPES[self.data_type]
        place = device if self.on_device else _CPU
        tensor = torch.empty_strided(self.shape, self.strides, dtype=kind, device=place)
        if self.data:
            flat = torch.frombuffer(bytearray(self.data), dtype=kind)
            tensor.copy_(flat.reshape(self.shape))
        return tensor


def _dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether every place in memory up to the last one is an element's own."""
    count = math.prod(shape)
    span = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    return count == 0 or span == count


class KeptList(Value, frozen=True):
    """A list of what a scheduler holds."""

    items: Annotated[tuple[Kept, ...], Meta(max_length=10_000)]


Kept = None | bool | int | float | str | KeptTensor | KeptList


class KeptLoop(Value, frozen=True):
    """A denoising loop after `calls` calls of the UNet, `steps` steps as the user counts them.

    Without a `scheduler`'s state it is finished.
    """

    calls: Count
    steps: Count
    latents: KeptTensor
    generator: KeptTensor
    scheduler: Annotated[dict[str, Kept], Meta(max_length=256)] | None = None


class KeptPicture(Value, frozen=True):
    """An unfinished picture of the work with that fingerprint.

    `widened` is whether its UNet computes in float32 because it had overflowed; `chain` how far
    what finishes it is, once that has begun.
    """

    fingerprint: Sha256
    image_index: Count
    widened: bool
    loops: Annotated[tuple[KeptLoop, ...], FEW]
    chain: KeptProgress | None = None


def kept(value: object) -> Kept:
    """What a scheduler holds, as a value.

    Raises:
        NotKept: It is of a kind that is not kept.
    """
    if isinstance(value, torch.Tensor):
        return KeptTensor.of(value)
    if isinstance(value, list | tuple):
        return KeptList(tuple(kept(item) for item in value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise NotKept(f"its scheduler holds a {type(value).__name__}")


def plain(value: Kept, device: torch.device) -> Any:
    """The inverse of `kept`; lists and tuples come back as lists."""
    if isinstance(value, KeptTensor):
        return value.tensor(device)
    if isinstance(value, KeptList):
        return [plain(item, device) for item in value.items]
    return value


def write_picture(path: Path, picture: KeptPicture) -> None:
    """Have the picture at `path`.

    Raises:
        NotKept: As `write_kept`.
    """
    write_kept(path, picture, MOST_BYTES + kept_chain.MOST_BYTES)


def read_picture(path: Path, fingerprint: str, image_index: int) -> KeptPicture:
    """The picture at `path`, which must be that of this work.

    Raises:
        NotKept: There is none, it is damaged, or that of other work or of another picture.
    """
    picture = read_kept(path, KeptPicture, MOST_BYTES + kept_chain.MOST_BYTES)
    if (picture.fingerprint, picture.image_index) != (fingerprint, image_index):
        raise NotKept("its file is that of another picture, or of other models")
    return picture
