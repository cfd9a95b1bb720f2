"""The migration guide answers for every name of the old design, speaks of what exists, and
tells what works from what does not yet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import grpc

from tests.contract import protos
from tests.contract.built import works

GUIDE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text("utf-8")
SEEDS = (Path(__file__).parent / "seed_names.txt").read_text("utf-8")
GONE, WORKS, NOT_YET = "went away", "works", "not yet"
_CODE = re.compile(r"`([^`]+)`")
_OLD_NAME = re.compile(r"`([A-Za-z][\w. -]*)`")


def rows(text: str, columns: int) -> list[list[str]]:
    """The cells of every table row of so many columns, heads and rules left out."""
    found = []
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith(("| Before", "| New", "|---")):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == columns:
                found.append(cells)
    return found


def answers(text: str) -> Counter[str]:
    """Old names of the guide, each with how many sections answer for it."""
    sections = re.split(r"^## ", text, flags=re.M)
    return Counter(
        name
        for section in sections
        for name in {_OLD_NAME.findall(row[0])[0] for row in rows(section, 4)}
    )


def demanded(text: str) -> Counter[str]:
    """Names of the old design, each with how many domains have it."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return Counter(
        {line.removesuffix(" x2"): 2 if line.endswith(" x2") else 1 for line in lines}
    )


def new_names(text: str) -> list[str]:
    """Everything in backticks but the first cell of a row that names an old thing."""
    names = []
    for line in text.splitlines():
        cells = line.strip("|").split("|")
        if line.startswith("|") and len(cells) == 4:
            line = "|".join(cells[1:])
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
    """RPCs that have no row, as a replacement or as something new."""
    listed = {name for row in rows(text, 4) for name in _CODE.findall(row[1])}
    listed |= {name for row in rows(text, 3) for name in _CODE.findall(row[0])}
    rpcs = {f"{method.service}.{method.name}" for method in protos.methods(protos.public())}
    return sorted(rpcs - listed)


def misstated(text: str) -> list[str]:
    """Rows whose state is not what the server answers."""
    stated = [(_CODE.findall(row[1]), row[2]) for row in rows(text, 4)]
    stated += [(_CODE.findall(row[0]), row[1]) for row in rows(text, 3)]
    return [f"{names}: {state}" for names, state in stated if state != _state_of(names)]


def _state_of(names: Iterable[str]) -> str:
    for name in names:
        return WORKS if works(name) else NOT_YET
    return GONE


def test_every_name_exists() -> None:
    assert unknown(GUIDE) == []


def test_every_rpc_has_a_row() -> None:
    assert unmentioned(GUIDE) == []


def test_every_row_says_whether_it_works() -> None:
    assert misstated(GUIDE) == []
    assert {state for row in rows(GUIDE, 4) for state in row[2:3]} == {WORKS, NOT_YET, GONE}


def test_what_is_new_replaces_nothing() -> None:
    listed = {row[0] for row in rows(GUIDE, 3)}
    replacing = {row[1] for row in rows(GUIDE, 4)}
    assert len(listed) > 20
    assert listed & replacing == set()


def test_every_old_name_is_mapped_or_dropped_with_a_reason() -> None:
    """Each as often as there are domains that have it."""
    assert answers(GUIDE) == demanded(SEEDS)
    assert len(demanded(SEEDS)) > 200


def test_every_row_is_whole() -> None:
    for row in rows(GUIDE, 4):
        before, now, state, why = row
        assert re.fullmatch(_OLD_NAME, before), row
        assert not now or re.fullmatch(r"`[^`]+`", now), row
        assert (state == GONE) == (not now), row
        assert why or state != GONE, row


def test_no_section_answers_for_a_name_twice() -> None:
    for section in re.split(r"^## ", GUIDE, flags=re.M):
        counts = Counter(row[0] for row in rows(section, 4))
        assert {name for name, count in counts.items() if count > 1} == set()


def test_status_codes_in_prose_are_spelt_right() -> None:
    codes = {code.name for code in grpc.StatusCode} | {"NOT_BUILT"}
    text = _CODE.sub("", GUIDE)
    # Words in capitals with an underscore outside of code are status codes.
    assert set(re.findall(r"\b[A-Z]{3,}_[A-Z_]+\b", text)) <= codes


def test_wrong_guides_are_found() -> None:
    guide = (
        "| `OldAsync` | `InferenceService.Draw` | works | See `GenerationSettings.step`. |\n"
        "| `Regions` | `GenerationSettings.regions` | works | |\n"
        "| `Width` | `GenerationSettings.width` | not yet | |\n"
    )
    assert unknown(guide) == ["GenerationSettings.step", "InferenceService.Draw"]
    assert "InferenceService.Generate" in unmentioned(guide)
    assert [line.partition(":")[0] for line in misstated(guide)] == [
        "['InferenceService.Draw']",
        "['GenerationSettings.regions']",
        "['GenerationSettings.width']",
    ]
    assert answers(guide) == {"OldAsync": 1, "Regions": 1, "Width": 1}
    assert demanded("# from\n\nA\nB x2\n") == {"A": 1, "B": 2}
