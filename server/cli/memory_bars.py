"""Memory as bars: what this server uses, what others use, what is free, place by place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deviceops.v1 import common_pb2, memory_pb2
from server.cli.wording import enum_word, printable, size

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

HEADINGS = ("place", "ours", "others", "free", "total", "pressure")
_WIDTH = 40
_OURS, _OTHERS, _FREE = "█", "▒", "·"
_COLORS = {"normal": "green", "elevated": "yellow", "high": "dark_orange", "critical": "red"}


@dataclass(frozen=True)
class Bar:
    """One place's memory in bytes; None where nobody tells."""

    place: str
    ours: int | None
    others: int | None
    free: int | None
    total: int | None
    pressure: str = ""

    def row(self) -> tuple[str, ...]:
        """Its cells under HEADINGS."""
        figures = (self.ours, self.others, self.free, self.total)
        return (self.place, *map(_size, figures), self.pressure or "?")

    def parts(self, width: int = _WIDTH) -> tuple[int, int, int]:
        """How many characters of a bar are ours, others' and free; they sum to `width`.

        What nobody tells counts as free, since nothing can be drawn of it.
        """
        if not self.total:
            return 0, 0, width
        ours = min(width, round(width * (self.ours or 0) / self.total))
        others = min(width - ours, round(width * (self.others or 0) / self.total))
        return ours, others, width - ours - others


def bars(
    status: memory_pb2.MemoryStatus, pressures: Iterable[memory_pb2.MemoryPressure]
) -> list[Bar]:
    """Main memory first, then every device."""
    levels = {one.place.device_id: _level(one) for one in pressures}
    host = status.host
    total, free = _value(host.total), _value(host.available)
    ours = _value(host.used_by_server)
    known = total is not None and free is not None
    others = max(0, (total or 0) - (free or 0) - (ours or 0)) if known else None
    result = [Bar("main memory", ours, others, free, total, levels.get("", ""))]
    for memory in status.devices:
        held = _value(memory.reserved)
        result.append(
            Bar(
                memory.device_id,
                _value(memory.allocated) if held is None else held,
                _value(memory.used_by_others),
                _value(memory.free),
                _value(memory.total),
                levels.get(memory.device_id, ""),
            )
        )
    return result


def drawn(found: Sequence[Bar]) -> Table:
    """The bars for a terminal, each in the colour of its pressure."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("place", "", *HEADINGS[1:]):
        result.add_column(Text(heading))
    for one in found:
        place, *cells, pressure = map(printable, one.row())
        color = _COLORS.get(one.pressure, "default")
        result.add_row(
            Text(place), _bar(one, color), *map(Text, cells), Text(pressure, style=color)
        )
    return result


def _bar(one: Bar, color: str) -> Text:
    from rich.text import Text

    ours, others, free = one.parts()
    return Text.assemble(
        (_OURS * ours, color), (_OTHERS * others, color), (_FREE * free, "dim")
    )


def _level(pressure: memory_pb2.MemoryPressure) -> str:
    return enum_word(memory_pb2.PressureLevel, pressure.level, "PRESSURE_LEVEL_")


def _value(figure: common_pb2.ByteFigure) -> int | None:
    return figure.value_bytes if figure.HasField("value_bytes") else None


def _size(count: int | None) -> str:
    return "?" if count is None else size(count)
