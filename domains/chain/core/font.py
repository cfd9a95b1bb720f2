"""What can be written with the built-in font: the one that Pillow carries (Aileron, CC0)."""

from __future__ import annotations

_RANGES = ((0x20, 0x7E), (0xB0, 0xB1), (0x2018, 0x2019), (0x201C, 0x201D), (0x2039, 0x203A))
_SINGLE = "©«´·»…⁄™"
CHARACTERS = frozenset(
    [chr(code) for first, last in _RANGES for code in range(first, last + 1)] + list(_SINGLE)
)
"""Characters that it has a picture of."""


def first_missing(text: str) -> int | None:
    """The position of the first character that it cannot write; None where there is none."""
    return next((at for at, each in enumerate(text) if each not in CHARACTERS), None)
