"""Results on stdout: tables and details for people, plain columns for pipes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from server.cli.wording import printable

if TYPE_CHECKING:
    from rich.table import Table


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table in a terminal; elsewhere one tab-separated line per row, headings first."""
    clean = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [list(headings), *clean]:
            plain(row)
        return
    write(drawn(headings, clean))


def plain(cells: Iterable[str]) -> None:
    """One tab-separated line, at once."""
    print("\t".join(map(printable, cells)), flush=True)


def write(drawn_table: Table) -> None:
    """A table on a terminal."""
    from rich.console import Console

    Console(highlight=False).print(drawn_table)


def drawn(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table for a terminal, of cells that are safe to print."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        result.add_column(Text(heading), overflow="fold")
    for row in rows:
        result.add_row(*(Text(printable(cell)) for cell in row))
    return result


def details(pairs: Iterable[tuple[str, str]]) -> None:
    """One `name: value` per line, values aligned; empty values are left out."""
    shown = [(name, printable(value)) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name + ':':<{width + 1}} {value}")
