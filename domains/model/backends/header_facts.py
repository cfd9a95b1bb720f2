"""What safetensors headers say about the weights as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from domains.model.backends.lora.endings import piece
from domains.model.backends.lora.targets import RANK_AXES
from domains.model.backends.remembered import Remembered
from domains.model.backends.safetensors_header import Header, TensorEntry
from domains.values import TensorDataType

_DATA_TYPES = {
    "F32": TensorDataType.FLOAT32,
    "F16": TensorDataType.FLOAT16,
    "BF16": TensorDataType.BFLOAT16,
    "F64": TensorDataType.FLOAT64,
    "F8_E4M3": TensorDataType.FLOAT8_E4M3,
    "F8_E5M2": TensorDataType.FLOAT8_E5M2,
    "I8": TensorDataType.INT8,
    "U8": TensorDataType.UINT8,
}

# A tensor without numbers may say that it has any.
_MOST_RANK = 1 << 16


def parameter_count(headers: Iterable[Header]) -> int:
    """Numbers in all tensors."""
    return sum(tensor.parameter_count for header in headers for tensor in header.tensors)


def lora_ranks(header: Header) -> Counter[int]:
    """How many layers of a LoRA have which rank; empty where its kind has none."""
    ranks: Counter[int] = Counter()
    for tensor in header.tensors:
        found = piece(tensor.name)
        axis = RANK_AXES.get(found.part) if found is not None else None
        if axis is not None and len(tensor.shape) >= 2 and tensor.shape[axis] <= _MOST_RANK:
            ranks[tensor.shape[axis]] += 1
    return +ranks


def data_type(headers: Iterable[Header]) -> TensorDataType | None:
    """The element type of most numbers; None when it is none that networks are kept in."""
    return data_type_of(tensor for header in headers for tensor in header.tensors)


def data_type_of(tensors: Iterable[TensorEntry]) -> TensorDataType | None:
    """See `data_type`."""
    counts: Counter[str] = Counter()
    for tensor in tensors:
        counts[tensor.data_type] += tensor.parameter_count
    return _DATA_TYPES.get(counts.most_common(1)[0][0]) if counts else None


class TensorFacts(NamedTuple):
    """What follows from the names, types and shapes of a file's tensors alone.

    `ranks` tells how many layers have which rank, if it is a LoRA; `scaled` whether any tensor
    is a layer's alpha.
    """

    data_type: TensorDataType | None
    parameter_count: int
    ranks: Counter[int]
    scaled: bool


_FACTS: Remembered[TensorFacts] = Remembered(1_024)


def tensor_facts(header: Header) -> TensorFacts:
    """Those of a file, which files of the same layout share."""
    known = _FACTS.get(header.layout)
    if known is None:
        known = TensorFacts(
            data_type([header]),
            parameter_count([header]),
            lora_ranks(header),
            any(tensor.name.endswith(".alpha") for tensor in header.tensors),
        )
        if header.layout:
            _FACTS.keep(header.layout, known)
    return known
