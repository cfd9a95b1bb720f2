"""Apply the contract's limits to values, one broken rule at a time.

Each function looks at one value and returns the rule it breaks, or None; `item_id` gives each
of several. `path` is where the value stands in the request (`settings.loras[1].weight`).
Descriptions state what is accepted and never repeat the value: it may be a prompt.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from domains.errors import FieldViolation, Reason
from domains.limits import Limit

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")
_DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,126}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)
# Marks, embeddings, overrides and isolates that reorder the text around them: a name that
# holds one reads as another name.
_DIRECTION_CHANGING = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_LINE_BREAKING = frozenset({"Zl", "Zp"})


def number(
    path: str, value: float, limit: Limit, *, reason: Reason = Reason.FIELD_OUT_OF_RANGE
) -> FieldViolation | None:
    """Check that a number is finite, in range and on the grid.

    A duration is checked in seconds. `reason` names the rule more closely where the
    contract has a word for it (`DIMENSIONS_INVALID`, `SEED_INVALID`).
    """
    if not math.isfinite(value):
        return FieldViolation(path, Reason.NON_FINITE_NUMBER, f"Must be {accepted(limit)}.")
    below = limit.minimum is not None and value < limit.minimum
    above = limit.maximum is not None and value > limit.maximum
    off_grid = limit.multiple_of is not None and value % limit.multiple_of != 0
    if below or above or off_grid:
        return FieldViolation(path, reason, f"Must be {accepted(limit)}.")
    return None


def accepted(limit: Limit) -> str:
    """What numbers a field accepts, as part of a sentence ("from 256 to 2048 pixels")."""
    words = []
    if limit.minimum is not None and limit.maximum is not None:
        words.append(f"from {limit.minimum} to {limit.maximum}")
    elif limit.minimum is not None:
        words.append(f"at least {limit.minimum}")
    elif limit.maximum is not None:
        words.append(f"at most {limit.maximum}")
    else:
        words.append("a finite number")
    if limit.unit is not None:
        words.append(limit.unit)
    if limit.multiple_of is not None:
        words.append(f"and a multiple of {limit.multiple_of}")
    return " ".join(words)


def elements(path: str, count: int, limit: Limit) -> FieldViolation | None:
    """Check the length of a list or map."""
    if limit.max_elements is not None and count > limit.max_elements:
        return FieldViolation(
            path,
            Reason.TOO_MANY_ELEMENTS,
            f"Must have at most {limit.max_elements} elements, not {count}.",
        )
    return None


def size(
    path: str, size_bytes: int, limit: Limit, *, reason: Reason = Reason.FIELD_OUT_OF_RANGE
) -> FieldViolation | None:
    """Check the length of a bytes field (`IMAGE_TOO_LARGE` for pictures)."""
    if limit.max_bytes is not None and size_bytes > limit.max_bytes:
        return FieldViolation(
            path, reason, f"Must have at most {limit.max_bytes} bytes, not {size_bytes}."
        )
    return None


def prose(path: str, value: str, limit: Limit) -> FieldViolation | None:
    """Check text a person writes at length, a prompt: line breaks, tabs and
    direction-changing characters are welcome, other control characters are not."""
    return _too_long(path, value, limit) or _character(path, value, _breaks_prose)


def line(path: str, value: str, limit: Limit) -> FieldViolation | None:
    """Check one line of text, a label or tag: nothing that breaks or reorders it."""
    return _too_long(path, value, limit) or _character(path, value, _breaks_line)


def lines(path: str, values: Sequence[str], limit: Limit) -> Sequence[FieldViolation | None]:
    """Check a list of lines: its length, and its lines only when that is right."""
    too_many = elements(path, len(values), limit)
    if too_many is not None:
        return (too_many,)
    return [line(f"{path}[{k}]", value, limit) for k, value in enumerate(values)]


def required(path: str, value: object, limit: Limit | None = None) -> FieldViolation | None:
    """Check that a field is there and not empty; `limit` says what a number may be."""
    if value is None or value == "" or value == b"" or value == () or value == []:
        numbers = limit is not None and limit.minimum is not None
        rule = f"Must be set: {accepted(limit)}." if limit and numbers else "Must be set."
        return FieldViolation(path, Reason.REQUIRED_FIELD_MISSING, rule)
    return None


def name(path: str, value: str) -> FieldViolation | None:
    """Check a name or id: one that is safe as part of a file's name on any platform."""
    if _NAME.fullmatch(value) and _safe_as_file(value):
        return None
    return FieldViolation(
        path,
        Reason.NAME_INVALID,
        "Must be 1 to 127 letters, digits, dots, underscores and hyphens of ASCII, "
        'begin with a letter or digit, hold no "..", not end in a dot and not be a '
        "reserved file name of Windows.",
    )


def device_id(path: str, value: str) -> FieldViolation | None:
    """Check a device's id or alias: as a name, with colons ("cuda:0")."""
    if _DEVICE_ID.fullmatch(value) and ".." not in value:
        return None
    return FieldViolation(
        path,
        Reason.NAME_INVALID,
        "Must be a device id or alias such as cpu:0, cuda:1 or gpu.",
    )


def request_id(path: str, value: str) -> FieldViolation | None:
    """Check an idempotency key.

    The nil UUID is refused: it is what a variable holds that nobody filled, and would
    make strangers' requests one.
    """
    if _UUID.fullmatch(value) and value.strip("0-"):
        return None
    return FieldViolation(
        path,
        Reason.REQUEST_ID_INVALID,
        "Must be a UUID of 36 characters with hyphens, other than the nil UUID.",
    )


def sha256(path: str, value: str) -> FieldViolation | None:
    """Check the form of an announced hash or artifact id."""
    if _SHA256.fullmatch(value):
        return None
    return FieldViolation(
        path,
        Reason.NAME_INVALID,
        "Must be a SHA-256 in lower-case hexadecimal, 64 characters.",
    )


def _safe_as_file(value: str) -> bool:
    stem = value.partition(".")[0].lower()
    return ".." not in value and not value.endswith(".") and stem not in _WINDOWS_DEVICES


def _too_long(path: str, value: str, limit: Limit) -> FieldViolation | None:
    if limit.max_characters is not None and len(value) > limit.max_characters:
        return FieldViolation(
            path,
            Reason.TEXT_TOO_LONG,
            f"Must have at most {limit.max_characters} characters, not {len(value)}.",
        )
    return None


def _breaks_prose(character: str) -> bool:
    return unicodedata.category(character) == "Cc" and character not in "\n\r\t"


def _breaks_line(character: str) -> bool:
    return (
        unicodedata.category(character) == "Cc"
        or unicodedata.category(character) in _LINE_BREAKING
        or character in _DIRECTION_CHANGING
    )


def _character(
    path: str, value: str, forbidden: Callable[[str], bool]
) -> FieldViolation | None:
    for position, character in enumerate(value):
        if forbidden(character):
            return FieldViolation(
                path,
                Reason.TEXT_INVALID,
                f"Must not hold U+{ord(character):04X}, found at position {position}.",
            )
    return None


def item_id(
    at: int, path: str, value: str, limit: Limit, first: dict[str, int]
) -> Iterator[FieldViolation | None]:
    """Check the name of an item of a list: it is set, in bounds, and no earlier one's.

    Args:
        at: The item's position in the list, which is the field `items`.
        path: Where the item stands.
        value: Its name.
        limit: Of the name.
        first: Where each name came first; the same for all items, empty before the first.
    """
    field = f"{path}.item_id"
    yield required(field, value)
    yield line(field, value, limit)
    earlier = first.setdefault(value, at)
    if earlier != at and value:
        rule = f"Is that of items[{earlier}] too; each needs one of its own."
        yield FieldViolation(field, Reason.FIELDS_CONFLICT, rule)
