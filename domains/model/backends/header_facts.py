"""What safetensors headers say about the weights as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

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

# The matrix of a pair that makes few numbers of many, in the names of two trainers.
_NARROW = ("lora_down.weight", "lora_A.weight")


def parameter_count(headers: Iterable[Header]) -> int:
    """Numbers in all tensors."""
    return sum(tensor.parameter_count for header in headers for tensor in header.tensors)


def lora_rank(header: Header) -> int:
    """Rank of the first pair of a LoRA's matrices; 0 where there is none."""
    for tensor in header.tensors:
        if tensor.name.endswith(_NARROW) and tensor.shape:
            return tensor.shape[0]
    return 0


def data_type(headers: Iterable[Header]) -> TensorDataType | None:
    """The element type of most numbers; None when it is none that networks are kept in."""
    return data_type_of(tensor for header in headers for tensor in header.tensors)


def data_type_of(tensors: Iterable[TensorEntry]) -> TensorDataType | None:
    """See `data_type`."""
    counts: Counter[str] = Counter()
    for tensor in tensors:
        counts[tensor.data_type] += tensor.parameter_count
    return _DATA_TYPES.get(counts.most_common(1)[0][0]) if counts else None
