"""The migration guide speaks of what exists, and leaves no RPC out."""

from __future__ import annotations

import re
from pathlib import Path

import grpc

from tests.contract import protos

GUIDE = Path(__file__).parents[2] / "docs" / "migration.md"
_CODE = re.compile(r"`([^`]+)`")
_NEW_SECTION = "## What has no ancestor"
GONE = "went away"


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, heads and rules left out."""
    found = []
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith(("| Before", "|---")):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def new_names(text: str) -> list[str]:
    """Everything in backticks but the first cell of a row, which names the old thing."""
    names = []
    for line in text.splitlines():
        if line.startswith("|"):
            line = line.strip("|").partition("|")[2]
        names += _CODE.findall(line)
    return names


def contract_names() -> set[str]:
    """RPCs, fields, messages, enums and enum values, as the guide writes them."""
    files = protos.public()
    names = {f"{method.service}.{method.name}" for method in protos.methods(files)}
    names |= {field.name for field in protos.fields(files)}
    names |= set(protos.messages(files))
    for enum in protos.enums(files):
        names |= {enum.proto.name, *enum.comments}
    return names | {"DeviceOperations.V1"}


def unknown(text: str) -> list[str]:
    """Names of the new contract that are not in it."""
    return sorted(set(new_names(text)) - contract_names())


def unmentioned(text: str) -> list[str]:
    """RPCs that replace nothing in the guide and are not listed as new either."""
    rpcs = {f"{method.service}.{method.name}" for method in protos.methods(protos.public())}
    return sorted(rpcs - set(new_names(text)))


def test_every_name_exists() -> None:
    assert unknown(GUIDE.read_text(encoding="utf-8")) == []


def test_every_rpc_is_a_replacement_or_new() -> None:
    assert unmentioned(GUIDE.read_text(encoding="utf-8")) == []


def test_what_is_new_replaces_nothing() -> None:
    tables, _, new = GUIDE.read_text(encoding="utf-8").partition(_NEW_SECTION)
    listed = set(_CODE.findall(new))
    replacing = {name for row in rows(tables) for name in _CODE.findall(row[1])}
    assert listed
    assert listed & replacing == set()


def test_every_old_name_has_its_row_and_its_answer() -> None:
    table = rows(GUIDE.read_text(encoding="utf-8"))
    old = [name for row in table for name in _CODE.findall(row[0])]
    assert len(old) == len(table) > 120
    for row in table:
        assert len(row) == 3, row
        before, now, why = row
        assert re.fullmatch(r"`[A-Za-z][\w.-]*`", before), row
        assert now == GONE or re.fullmatch(r"`[^`]+`", now), row
        # What went away needs a reason.
        assert now != GONE or why, row


def test_no_old_name_is_explained_twice() -> None:
    """An operation moved once; two answers would be none."""
    old = [row[0] for row in rows(GUIDE.read_text(encoding="utf-8"))]
    assert sorted({name for name in old if old.count(name) > 1}) == []


def test_status_codes_in_prose_are_spelt_right() -> None:
    codes = {code.name for code in grpc.StatusCode}
    text = _CODE.sub("", GUIDE.read_text(encoding="utf-8"))
    # Words in capitals with an underscore outside of code are status codes.
    assert set(re.findall(r"\b[A-Z]{3,}_[A-Z_]+\b", text)) <= codes


def test_wrong_guides_are_found() -> None:
    guide = "| `OldAsync` | `InferenceService.Draw` | See `GenerationSettings.step`. |\n"
    assert unknown(guide) == ["GenerationSettings.step", "InferenceService.Draw"]
    assert "InferenceService.Generate" in unmentioned(guide)
