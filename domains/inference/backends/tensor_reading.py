"""Single tensors of small files: LoRAs and embeddings."""

from __future__ import annotations

from typing import BinaryIO

import torch

from domains.errors import Reason
from domains.model.backends.lora.file import Finding
from domains.model.backends.safetensors_header import TensorEntry
from domains.model.backends.weights import TORCH_TYPES

# Of the types that files have, those that changes and vectors come in.
_TYPES = {
    name: TORCH_TYPES[name]
    for name in ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32")
}


class UnreadableTensor(Exception):
    """A tensor cannot be read; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.description)
        self.finding = finding


def read_tensor(file: BinaryIO, entry: TensorEntry, device: torch.device) -> torch.Tensor:
    """A tensor in the file's element type, on a device.

    Raises:
        UnreadableTensor: MODEL_INCOMPATIBLE for an element type that nothing here computes
            with, MODEL_INCOMPLETE where the file ends too early.
    """
    kind = _TYPES.get(entry.data_type)
    if kind is None or not entry.size_bytes:
        what = f"{entry.name!r} is of no element type or size that is applied."
        raise UnreadableTensor(Finding(Reason.MODEL_INCOMPATIBLE, entry.name, what))
    file.seek(entry.offset)
    data = bytearray(file.read(entry.size_bytes))
    if len(data) != entry.size_bytes:
        what = "The file ends too early."
        raise UnreadableTensor(Finding(Reason.MODEL_INCOMPLETE, entry.name, what))
    return torch.frombuffer(data, dtype=kind).reshape(entry.shape).to(device)
