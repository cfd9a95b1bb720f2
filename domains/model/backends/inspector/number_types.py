"""Numbers of every stored type, by numpy alone: into another type, and whether they are finite.

numpy has no bfloat16 and no 8-bit floats, so numbers travel as the integers of their bits.
Rounding is to the nearest, ties to even, as torch rounds.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from domains.model.backends.safetensors_header import ELEMENT_BITS

Array: TypeAlias = npt.NDArray[Any]

FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
TARGETS = frozenset({"F32", "F16", "BF16"})
"""What numbers can be turned into."""
_BITS = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
# Bits that are all set in what is not finite: the exponent, and for E4M3 the fraction as well.
_NOT_FINITE = {
    "F64": 0x7FF0000000000000,
    "F32": 0x7F800000,
    "F16": 0x7C00,
    "BF16": 0x7F80,
    "F8_E5M2": 0x7C,
    "F8_E4M3": 0x7F,
}


def bits_type(data_type: str) -> np.dtype[Any]:
    """The little-endian integers that numbers of a stored type are carried in."""
    return np.dtype(_BITS[ELEMENT_BITS[data_type]]).newbyteorder("<")


def finite(bits: Array, data_type: str) -> bool:
    """Whether no number is NaN or infinite; integers never are."""
    mask = _NOT_FINITE.get(data_type)
    return mask is None or not bool(np.any((bits & bits.dtype.type(mask)) == mask))


def converted(
    bits: Array, source: str, target: str, scale: float | None = None
) -> tuple[Array, bool]:
    """Numbers in another type, and whether all that were finite still are.

    Args:
        bits: Numbers of type `source`.
        source: One of `FLOATS`.
        target: One of `TARGETS`.
        scale: What each is multiplied by, in float32.
    """
    if source == target and scale is None:
        return bits, True
    values = decoded(bits, source)
    if scale is not None:
        values = values.astype("<f4") * np.float32(scale)
    with np.errstate(over="ignore", invalid="ignore"):
        result = _encoded(values, target)
    if finite(result, target):
        return result, True
    return result, not bool(np.any(np.isfinite(values) & ~_finite_each(result, target)))


def _finite_each(bits: Array, data_type: str) -> npt.NDArray[np.bool_]:
    mask = bits.dtype.type(_NOT_FINITE[data_type])
    return np.asarray((bits & mask) != mask)


def decoded(bits: Array, source: str) -> Array:
    """As numpy's own floats, without a loss."""
    match source:
        case "F64":
            return bits.view("<f8")
        case "F32":
            return bits.view("<f4")
        case "F16":
            return bits.view("<f2")
        case "BF16":
            return (bits.astype("<u4") << 16).view("<f4")
        case "F8_E5M2":  # the upper half of a float16
            return (bits.astype("<u2") << 8).view("<f2")
    return _E4M3[bits]


def _encoded(values: Array, target: str) -> Array:
    if target == "F32":
        return values.astype("<f4").view("<u4")
    if target == "F16":
        return values.astype("<f2").view("<u2")
    wide = values.astype("<f4").view("<u4")
    rounded = ((wide + (0x7FFF + ((wide >> 16) & 1))) >> 16).astype("<u2")
    # Adding could carry a NaN over into something else.
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded).astype("<u2")


def _e4m3_table() -> Array:
    """Every float8_e4m3fn: 4 bits of exponent with a bias of 7, 3 of fraction, no infinity."""
    code = np.arange(256)
    exponent, fraction = (code >> 3) & 15, code & 7
    normal = (1 + fraction / 8) * 2.0 ** (exponent - 7)
    size = np.where(exponent == 0, fraction / 8 * 2.0**-6, normal)
    size = np.where(code & 0x7F == 0x7F, np.nan, size)
    return np.where(code & 0x80, -size, size).astype("<f4")


_E4M3 = _e4m3_table()
