"""The codec: values survive, what is not as declared is refused, nothing is quoted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from domains.codec import (
    FEW,
    Count,
    Malformed,
    Moment,
    Name,
    Seconds,
    Sha256,
    Text,
    Texts,
    Value,
    decode,
    decode_json,
    encode,
    encode_json,
    one_line,
)


class Colour(Enum):
    RED = "red"


class Leaf(Value, frozen=True):
    name: Name
    text: Text = ""
    digest: Sha256 = "0" * 64


class Tree(Value, frozen=True):
    count: Count
    seconds: Seconds
    moment: Moment
    colour: Colour
    leaves: Annotated[tuple[Leaf, ...], FEW] = ()
    texts: Texts = msgspec.field(default_factory=dict)
    path: Path = Path("/models")
    data: Annotated[bytes, Meta(max_length=4)] = b""


TREE = Tree(1, 0.5, datetime(2026, 1, 1, tzinfo=UTC), Colour.RED, (Leaf("a"),), {"b": "c"})


def test_values_survive_both_forms() -> None:
    assert decode(Tree, encode(TREE)) == TREE
    assert decode_json(Tree, encode_json(TREE)) == TREE
    assert decode(Tree | Leaf, encode(TREE.leaves[0])) == TREE.leaves[0]
    assert b"\n" not in encode_json(TREE)


def test_what_has_no_plain_form_is_a_defect_of_ours() -> None:
    with pytest.raises(TypeError):
        encode(object())


@pytest.mark.parametrize(
    "change",
    [
        {"type": "Leaf"},
        {"type": "os.system"},
        {"type": None},
        {"surplus": 1},
        {"count": -1},
        {"count": 2**31},
        {"count": 1.5},
        {"count": "1"},
        {"count": True},
        {"seconds": math.nan},
        {"seconds": math.inf},
        {"seconds": -1.0},
        {"seconds": 1e10},
        {"moment": datetime(2026, 1, 1)},  # noqa: DTZ001 - without a zone it is refused
        {"moment": 7},
        {"colour": "blue"},
        {"colour": 0},
        {"leaves": [{"type": "Leaf", "name": "a"}] * 65},
        {"leaves": [{"type": "Leaf"}]},
        {"leaves": [{"type": "Leaf", "name": "../a"}]},
        {"leaves": [{"type": "Leaf", "name": ""}]},
        {"leaves": [{"type": "Leaf", "name": "a" * 129}]},
        {"leaves": [{"type": "Leaf", "name": "a", "text": "x\ny"}]},
        {"leaves": [{"type": "Leaf", "name": "a", "text": "\x1b[31m"}]},
        {"leaves": [{"type": "Leaf", "name": "a", "text": "\u202ereversed"}]},
        {"leaves": [{"type": "Leaf", "name": "a", "text": "x" * 1001}]},
        {"leaves": [{"type": "Leaf", "name": "a", "digest": "A" * 64}]},
        {"leaves": [{"type": "Leaf", "name": "a", "digest": "0" * 63}]},
        {"leaves": {}},
        {"texts": {"../x": "1"}},
        {"texts": {"a": "x" * 1001}},
        {"texts": {f"a{k}": "" for k in range(65)}},
        {"path": "x" * 5000},
        {"path": "a\0b"},
        {"path": 7},
        {"data": b"12345"},
        {"data": "text"},
    ],
    ids=lambda change: str(change)[:60],
)
def test_what_is_not_as_declared_is_refused(change: Mapping[str, object]) -> None:
    plain = msgspec.msgpack.decode(encode(TREE)) | change
    with pytest.raises(Malformed):
        decode(Tree, msgspec.msgpack.encode(plain))


@pytest.mark.parametrize("field", ["count", "seconds", "moment", "colour"])
def test_a_missing_field_is_refused(field: str) -> None:
    plain = msgspec.msgpack.decode(encode(TREE))
    del plain[field]
    with pytest.raises(Malformed):
        decode(Tree, msgspec.msgpack.encode(plain))


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xc1", b"\x80", b"[]", b"\x91" * 2000, encode(TREE)[:-1]]
)
def test_bytes_that_are_no_value_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(Tree, data)


def test_deeply_nested_text_is_refused() -> None:
    with pytest.raises(Malformed):
        decode_json(Tree, b"[" * 100_000)


def test_a_refusal_names_the_place_and_quotes_nothing() -> None:
    plain = msgspec.msgpack.decode(encode(TREE)) | {"colour": "secret"}
    with pytest.raises(Malformed) as refusal:
        decode(Tree, msgspec.msgpack.encode(plain))
    assert str(refusal.value) == "a value is not as declared at `$.colour`"
    plain |= {"colour": "red", "secret": 1}
    with pytest.raises(Malformed, match=r"at `\$`$"):
        decode(Tree, msgspec.msgpack.encode(plain))


def test_text_is_cut_and_kept_on_one_line() -> None:
    assert one_line("a\nb\x1b") == "a b "
    assert len(one_line("x" * 5000)) == 1000
    decode(Leaf, encode(Leaf("a", one_line("a\u202eb\u2028c" + "x" * 5000))))
