"""Items of a batch out of a file: a table (CSV), or a JSON object a line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from google.protobuf import json_format

from deviceops.v1 import generation_pb2, inference_pb2
from server.cli.choices import UnusableOptions
from server.cli.field_values import Picture
from server.cli.overlays import overlay

_ID, _CLEARED = "item_id", "cleared_fields"
_FIELDS = tuple(generation_pb2.GenerationSettings.DESCRIPTOR.fields_by_name)
Numbered = tuple[int, inference_pb2.GenerationItem]  # the line of the file that it begins on


def read_items(
    path: Path, template: generation_pb2.GenerationSettings, picture: Picture
) -> list[Numbered]:
    """The items of a file that ends in .csv or .jsonl; those without a name are called by
    their number, from 1.

    A table's columns are paths of fields as `--set` takes them, and `item_id` and
    `cleared_fields`; an empty cell leaves the template's value. A line of JSON is a
    GenerationOverlay of the contract, and may have an `item_id` beside.

    Raises:
        UnusableOptions: The file cannot be read, or holds no items; line and column are named.
    """
    readers: dict[str, Callable[[str], Iterator[Numbered]]] = {
        ".csv": lambda text: _rows(text, template, picture),
        ".jsonl": _objects,
    }
    reader = readers.get(path.suffix.lower())
    try:
        if reader is None:
            raise UnusableOptions("its name must end in .csv or .jsonl")
        items = list(reader(_text(path)))
        if not items:
            raise UnusableOptions("there are no items in it")
        for line, item in items:
            _check_cleared(line, item.overlay.cleared_fields.paths)
    except UnusableOptions as error:
        raise UnusableOptions(f"--items {path}: {error}") from error
    for number, (_, item) in enumerate(items, 1):
        item.item_id = item.item_id or str(number)
    return items


def _text(path: Path) -> str:
    try:
        # Line ends stay: they may stand inside a quoted cell. Spreadsheets write the mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise UnusableOptions(f"byte {error.start} is no UTF-8") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UnusableOptions(f"it cannot be read: {why}") from error


def _rows(
    text: str, template: generation_pb2.GenerationSettings, picture: Picture
) -> Iterator[Numbered]:
    lines = _cells(text)
    _, header = next(lines, (1, []))
    columns = [name.strip() for name in header]
    _check_columns(columns)
    for line, cells in lines:
        if len(cells) != len(columns):
            raise UnusableOptions(
                f"line {line}: it has {len(cells)} cells, and the first line {len(columns)}"
            )
        said = {name: cell for name, cell in zip(columns, cells, strict=True) if cell}
        item = inference_pb2.GenerationItem()
        name, cleared = said.pop(_ID, ""), said.pop(_CLEARED, "")
        item.item_id = name.strip()
        made = overlay(template, said.items(), picture, f"line {line}, column ")
        item.overlay.CopyFrom(made)
        item.overlay.cleared_fields.paths.extend(
            each.strip() for each in cleared.split(",") if each.strip()
        )
        yield line, item


def _cells(text: str) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not empty, and where each begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins = 1
    try:
        for cells in reader:
            if cells:
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        raise UnusableOptions(f"line {begins}: {error}") from error


def _check_columns(columns: Sequence[str]) -> None:
    known = (_ID, _CLEARED, *_FIELDS)
    for at, name in enumerate(columns):
        if name.partition(".")[0] not in known:
            raise UnusableOptions(
                f"line 1, column {name or at + 1}: there is no such field, only"
                f" {', '.join(known)}"
            )
        if name in columns[:at]:
            raise UnusableOptions(f"line 1, column {name}: it is there twice")


def _check_cleared(line: int, names: Sequence[str]) -> None:
    for name in names:
        if name not in _FIELDS:
            raise UnusableOptions(
                f"line {line}, {_CLEARED}: there is no field {name!r}, only"
                f" {', '.join(_FIELDS)}"
            )


def _objects(text: str) -> Iterator[Numbered]:
    for line, each in enumerate(text.split("\n"), 1):
        if not each.strip():
            continue
        item = inference_pb2.GenerationItem()
        try:
            said = json.loads(each)
            if not isinstance(said, dict):
                raise UnusableOptions(f"line {line}: it is no JSON object")
            name = said.pop(_ID, "")
            if not isinstance(name, str):
                raise UnusableOptions(f"line {line}, {_ID}: {name!r} is no text")
            item.item_id = name
            json_format.ParseDict(said, item.overlay)
        except json.JSONDecodeError as error:
            where = f"line {line}, column {error.colno}"
            raise UnusableOptions(f"{where}: it is no JSON: {error.msg}") from error
        except (json_format.ParseError, RecursionError) as error:
            raise UnusableOptions(f"line {line}: {error}") from error
        except UnusableOptions:
            raise
        except ValueError as error:  # text that a field cannot hold
            raise UnusableOptions(f"line {line}: {error}") from error
        yield line, item
