"""Words and figures for people: enum values, sizes, times, and text made safe to print."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper
    from google.protobuf.timestamp_pb2 import Timestamp

    from deviceops.v1 import common_pb2

V = TypeVar("V", bound=int)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
# Cc control, Cf format (direction changes among them), Cs surrogates, Co private use.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co"})


def printable(text: str) -> str:
    """`text` without anything that could steer a terminal; new lines and tabs become spaces.

    Names and messages come from model files and servers, and an escape sequence in one
    could rewrite the screen.
    """
    return "".join(
        " " if character in "\n\r\t" else character
        for character in text
        if character in "\n\r\t" or unicodedata.category(character) not in _UNPRINTABLE
    )


def enum_word(enum: _EnumTypeWrapper[V], value: V, prefix: str) -> str:
    """`SESSION_STATE_RUNNING` as `running`; `unspecified (99)` for values of newer servers."""
    try:
        name = enum.Name(value)
    except ValueError:
        return f"unspecified ({value})"
    return name.removeprefix(prefix).lower().replace("_", "-")


def size(count: float) -> str:
    """Bytes with a binary unit: `1.5 MiB`."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def byte_figure(figure: common_pb2.ByteFigure) -> str:
    """A figure with its quality: `~8.0 GiB` when estimated, `?` when unknown."""
    if not figure.HasField("value_bytes"):
        return "?"
    estimated = figure.quality == 2  # FIGURE_QUALITY_ESTIMATED
    return f"{'~' if estimated else ''}{size(figure.value_bytes)}"


def count(number: float) -> str:
    """A large number, shortened: `28.1 M`."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """`340 ms`, `2.5 s`, `3 min 20 s`, `2 h 5 min`, `7 d`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return _parts(seconds, (60, "min"), (1, "s"))
    if seconds < 86400:
        return _parts(seconds, (3600, "h"), (60, "min"))
    return _parts(seconds, (86400, "d"), (3600, "h"))


def _parts(seconds: float, large: tuple[int, str], small: tuple[int, str]) -> str:
    whole, rest = divmod(round(seconds / small[0]), large[0] // small[0])
    return f"{whole} {large[1]}" + (f" {rest} {small[1]}" if rest else "")


def seconds_of(message: Duration) -> float:
    """A protobuf Duration in seconds."""
    return float(message.seconds) + message.nanos / 1e9


def moment(timestamp: Timestamp) -> str:
    """A time in this machine's zone, `2026-03-01 14:05:09`; empty when unset."""
    if not timestamp.seconds and not timestamp.nanos:
        return ""
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(timestamp.seconds, tz=UTC).astimezone()
    return at.strftime("%Y-%m-%d %H:%M:%S")
