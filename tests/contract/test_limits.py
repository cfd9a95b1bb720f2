"""The limits in the protos' comments and the table that validation reads are the same."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from domains.limits import LIMITS, Limit
from tests.contract import protos
from tests.contract.stated import AT_MOST, DEFAULT, RANGE, REQUIRED, documented

# The beginning of every set phrase; one that does not go on as stated.py reads it is misspelt.
_BEGINNINGS = re.compile(
    r"Range\b|multiples? of \d|[Aa]t most \d+ (?:elem|char|byte)|Default: -?\d|0 means \d"
    r"|\bRequired\b"
)


def differences(
    files: tuple[FileDescriptorProto, ...], table: Mapping[str, Limit]
) -> list[str]:
    """One line per disagreement between comments and table, either way.

    What only answers hold has an entry where code keeps the limit, and needs none elsewhere.
    """
    comments = documented(files)
    lines = [
        f"{name}: documented without an entry"
        for name in comments.keys() - table.keys()
        if name.partition(".")[0] in _sent_by_clients()
    ]
    lines += [f"{name}: an entry without a phrase" for name in table.keys() - comments.keys()]
    for name in comments.keys() & table.keys():
        entry = {k: v for k, v in asdict(table[name]).items() if k not in ("field", "unit")}
        phrase = dict.fromkeys(entry) | {"required": False} | dict(comments[name])
        lines += [
            f"{name}.{key}: {phrase[key]} documented, {entry[key]} in the table"
            for key in entry
            if phrase[key] != entry[key]
        ]
    return sorted(lines)


def test_comments_and_table_agree() -> None:
    assert differences(protos.public(), LIMITS) == []


def test_the_table_is_keyed_by_field() -> None:
    assert all(name == limit.field for name, limit in LIMITS.items())


def test_a_wrong_number_in_the_table_is_found() -> None:
    wrong = replace(LIMITS["GenerationSettings.steps"], maximum=151)
    assert differences(protos.public(), {**LIMITS, wrong.field: wrong}) == [
        "GenerationSettings.steps.maximum: 150.0 documented, 151 in the table"
    ]


def test_a_missing_and_a_surplus_entry_are_found() -> None:
    table = {name: limit for name, limit in LIMITS.items() if name != "InputImage.inline"}
    table["ImageChunk.image_index"] = Limit("ImageChunk.image_index", maximum=9)
    assert differences(protos.public(), table) == [
        "ImageChunk.image_index: an entry without a phrase",
        "InputImage.inline: documented without an entry",
    ]


@pytest.mark.parametrize("name", ["LoraWeight.model_id", "GenerationSettings.steps"])
def test_a_required_field_that_only_one_says_is_found(name: str) -> None:
    wrong = replace(LIMITS[name], required=not LIMITS[name].required)
    assert differences(protos.public(), {**LIMITS, name: wrong}) == [
        f"{name}.required: {not wrong.required} documented, {wrong.required} in the table"
    ]


def test_a_changed_comment_is_found(tmp_path: Path) -> None:
    root = tmp_path / "protos"
    shutil.copytree(protos.ROOT, root)
    generation = root / protos.PUBLIC / "generation.proto"
    text = generation.read_text(encoding="utf-8")
    assert text.count("Range: 1 to 150. Default: 25.") == 1
    generation.write_text(
        text.replace("Range: 1 to 150. Default: 25.", "Range: 1 to 150. Default: 30."),
        encoding="utf-8",
    )
    files = tuple(f for f in protos.parse(root).file if f.name.startswith(protos.PUBLIC))
    assert differences(files, LIMITS) == [
        "GenerationSettings.steps.default: 30.0 documented, 25 in the table"
    ]


def test_every_phrase_is_spelt_as_the_others() -> None:
    misspelt = []
    for field in protos.fields(protos.public()):
        rest = DEFAULT.sub("", AT_MOST.sub("", RANGE.sub("", REQUIRED.sub("", field.comment))))
        if _BEGINNINGS.search(rest):
            misspelt.append(f"{field.name}: {field.comment}")
    assert misspelt == []


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS.keys())
def test_a_limit_makes_sense(limit: Limit) -> None:
    if limit.minimum is not None and limit.maximum is not None:
        assert limit.minimum < limit.maximum
        if limit.default is not None:
            assert limit.minimum <= limit.default <= limit.maximum
        if limit.multiple_of is not None:
            on_grid = (limit.minimum, limit.maximum, limit.default or 0)
            assert [value % limit.multiple_of for value in on_grid] == [0, 0, 0]


def test_limits_stand_on_fields_that_can_have_them() -> None:
    kinds = FieldDescriptorProto
    misplaced = []
    for field in protos.fields(protos.public()):
        limit = LIMITS.get(field.name)
        if limit is None:
            continue
        is_list = field.proto.label == kinds.LABEL_REPEATED
        if limit.max_elements is not None and not (is_list or _is_mask(field.proto)):
            misplaced.append(f"{field.name} is no list")
        # A message is bounded by its size on the wire.
        sized = (kinds.TYPE_BYTES, kinds.TYPE_MESSAGE)
        if limit.max_bytes is not None and field.proto.type not in sized:
            misplaced.append(f"{field.name} has no bytes")
        is_duration = field.proto.type_name == ".google.protobuf.Duration"
        if is_duration != (limit.unit == "seconds"):
            misplaced.append(f"{field.name} is a duration or has seconds, not both")
        if limit.multiple_of is not None and field.proto.type != kinds.TYPE_INT32:
            misplaced.append(f"{field.name} is not whole")
    assert misplaced == []


def test_every_list_a_client_sends_is_bounded() -> None:
    """Maps and lists of requests have a documented largest length."""
    unbounded = [
        field.name
        for field in protos.fields(protos.public())
        if field.message in _sent_by_clients()
        and field.proto.label == FieldDescriptorProto.LABEL_REPEATED
        and (field.name not in LIMITS or LIMITS[field.name].max_elements is None)
    ]
    assert unbounded == []


def test_every_number_a_client_sends_is_bounded() -> None:
    """Fractions and durations of requests have a documented range.

    Whole numbers without one are offsets, lengths, versions and sequence numbers, which
    are checked against the thing they point into.
    """
    unbounded = [
        field.name
        for field in protos.fields(protos.public())
        if field.message in _sent_by_clients()
        and (
            field.proto.type
            in (FieldDescriptorProto.TYPE_DOUBLE, FieldDescriptorProto.TYPE_FLOAT)
            or field.proto.type_name == ".google.protobuf.Duration"
        )
        and (field.name not in LIMITS or LIMITS[field.name].minimum is None)
    ]
    # A workflow's number is bounded by the field it is bound to; UpdateModel, which takes the
    # message that a model is shown in, reads nothing of its problem.
    assert unbounded == [
        *("Failure.retry_delay", "WorkflowValue.number"),
        *("WorkflowParameter.minimum", "WorkflowParameter.maximum"),
    ]


def test_every_text_a_client_sends_is_bounded() -> None:
    """Texts have a documented length, or are names, ids, hashes or tokens by their name."""
    named = re.compile(r"(^|_)(id|ids|aliases|sha256|token|owner)$")
    unbounded = [
        field.name
        for field in protos.fields(protos.public())
        if field.message in _sent_by_clients()
        and field.proto.type == FieldDescriptorProto.TYPE_STRING
        and not named.search(field.proto.name)
        and (field.name not in LIMITS or LIMITS[field.name].max_characters is None)
    ]
    # As in the test above.
    assert unbounded == ["Failure.message"]


@cache
def _sent_by_clients() -> frozenset[str]:
    """Messages that requests consist of."""
    by_name = protos.messages(protos.public())
    pending = [method.request for method in protos.methods(protos.public())]
    reached: set[str] = set()
    while pending:
        name = pending.pop()
        if name in reached or name not in by_name:
            continue
        reached.add(name)
        pending += [field.type_name.rpartition(".")[2] for field in by_name[name].field]
    return frozenset(reached)


def _is_mask(field: FieldDescriptorProto) -> bool:
    return field.type_name == ".google.protobuf.FieldMask"
