"""Every frame survives the link; what no honest end sends is refused.

Everything here is derived from the types: a new job, event or report is covered the moment
it exists.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import pkgutil
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect as shape

import domains
from domains.codec import Value, decode, decode_json, encode
from domains.session.jobs import Job
from server.worker.link import frames
from server.worker.link.connection import MAX_FRAME_BYTES
from server.worker.link.frames import ProtocolError
from server.worker.link.start_record import StartRecord


def all_jobs() -> tuple[type[Job[Any]], ...]:
    """Every job that some domain declares."""
    for domain in pkgutil.iter_modules(domains.__path__, "domains."):
        if domain.ispkg and importlib.util.find_spec(f"{domain.name}.jobs"):
            importlib.import_module(f"{domain.name}.jobs")
    jobs = Job.__subclasses__()
    return tuple(job for job in jobs if job.__module__.startswith("domains."))


JOBS = all_jobs()
REPORTS: tuple[type[Value], ...] = tuple(
    kind for job in JOBS for kind in get_args(job.report_type()) or (job.report_type(),)
)
FRAMES: tuple[type[Value], ...] = (*get_args(frames.ToWorker), *get_args(frames.FromWorker))
ROOTS: tuple[type[Value], ...] = (*FRAMES, *JOBS, *REPORTS, StartRecord)
# A relative error is infinite where results were not finite.
UNBOUNDED = {"DataTypeFacts.max_relative_error"}


def fields_of(kind: type) -> tuple[shape.Field, ...]:
    """Its fields, with the bounds they declare."""
    info = shape.type_info(kind)
    assert isinstance(info, shape.StructType)
    return info.fields


def leaves(info: shape.Type) -> Iterator[shape.Type]:
    """The plain types that a field's type is made of."""
    match info:
        case shape.UnionType(types=members):
            for member in members:
                yield from leaves(member)
        case shape.VarTupleType(item_type=item):
            yield info
            yield from leaves(item)
        case shape.TupleType(item_types=items):
            for item in items:
                yield from leaves(item)
        case shape.DictType(key_type=key, value_type=item):
            yield info
            yield from leaves(key)
            yield from leaves(item)
        case _:
            yield info


def reachable() -> list[type]:
    """Every value type that the link or a start record can hold."""
    found: list[type] = []
    waiting: list[type] = list(ROOTS)
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found.append(kind)
            waiting += [
                leaf.cls
                for field in fields_of(kind)
                for leaf in leaves(field.type)
                if isinstance(leaf, shape.StructType)
            ]
    return found


def unbounded(info: shape.Type) -> bool:
    """Whether a value of that type could be of any size."""
    match info:
        case shape.StrType() | shape.BytesType() | shape.VarTupleType() | shape.DictType():
            return info.max_length is None and getattr(info, "pattern", None) is None
        case shape.IntType() | shape.FloatType():
            low, high = (info.ge, info.gt), (info.le, info.lt)
            return low == (None, None) or high == (None, None)
        case _:
            return False


@pytest.mark.parametrize("kind", reachable(), ids=lambda kind: kind.__name__)
def test_every_field_is_bounded(kind: type) -> None:
    free = [
        f"{kind.__name__}.{field.name}"
        for field in fields_of(kind)
        if any(unbounded(leaf) for leaf in leaves(field.type))
    ]
    assert set(free) <= UNBOUNDED


def honest(info: shape.Type) -> st.SearchStrategy[Any]:
    """Values of a type, within its bounds."""
    match info:
        case shape.StructType(cls=cls):
            return st.deferred(lambda: values(cls))  # one may hold others of its kind
        case shape.UnionType(types=members):
            return st.one_of([honest(member) for member in members])
        case shape.NoneType():
            return st.none()
        case shape.BoolType():
            return st.booleans()
        case shape.IntType():
            high = info.le if info.le is not None else (info.lt or 2**63) - 1
            return st.integers(int(info.ge or 0), int(high))
        case shape.FloatType():
            return st.floats(info.ge, info.le, allow_nan=False)
        case shape.EnumType(cls=cls):
            return st.sampled_from(cls)
        case shape.StrType(pattern=pattern) if pattern is not None:
            exactly = re.search(r"\{(\d+)\}", pattern)
            length = int(exactly[1]) if exactly else None
            return st.text("0189abcdef", min_size=length or 1, max_size=length or 8)
        case shape.StrType():
            return st.text(
                min_size=info.min_length or 0, max_size=min(info.max_length or 50, 50)
            )
        case shape.BytesType():
            return st.binary(min_size=info.min_length or 0, max_size=50)
        case shape.DateTimeType():
            return st.datetimes(min_value=datetime(1971, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
        case shape.VarTupleType(item_type=item):
            return st.lists(honest(item), max_size=3).map(tuple)
        case shape.TupleType(item_types=items):
            return st.tuples(*map(honest, items))
        case shape.DictType(key_type=key, value_type=item):
            return st.dictionaries(honest(key), honest(item), max_size=3)
        case shape.CustomType():
            return st.just(Path("models", "emoji-xl"))
        case shape.RawType():
            return st.just(msgspec.Raw(b"\x80"))
        case _:
            raise TypeError(f"no strategy for {info}")


@cache
def values(kind: type) -> st.SearchStrategy[Any]:
    """Values of a type; what its own check refuses is left out."""
    given_fields = st.fixed_dictionaries(
        {field.name: honest(field.type) for field in fields_of(kind)}
    )

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        for _ in range(50):
            try:
                return kind(**draw(given_fields))
            except ValueError:
                continue
        raise AssertionError(f"no {kind.__name__} came of it")

    return build()


def plain(value: Any) -> Any:
    """A value as what any program could have sent."""
    return msgspec.msgpack.decode(encode(value))


@pytest.mark.parametrize("kind", ROOTS, ids=lambda kind: kind.__name__)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_everything_survives(kind: type[Value], data: st.DataObject) -> None:
    value = data.draw(values(kind))
    again = decode(kind, encode(value))
    assert plain(again) == plain(value)
    if not any(
        isinstance(getattr(value, name), msgspec.Raw) for name in value.__struct_fields__
    ):
        assert again == value


def refused(kind: type[Value], data: bytes) -> bool:
    """Whether those bytes are no such value."""
    try:
        frames.decoded(kind, data)
    except ProtocolError:
        return True
    return False


def hostile(info: shape.Type, sent: Any) -> Iterator[tuple[str, Any]]:
    """What else could stand in place of `sent`, and must be refused there."""
    match info:
        case shape.StructType(fields=fields):
            yield "tag", sent | {"type": "os.system"}
            yield "surplus", sent | {"surplus": 1}
            yield "no struct", 7
            for field in fields:
                if field.required:
                    rest = {key: value for key, value in sent.items() if key != field.name}
                    yield f"without {field.name}", rest
                for what, changed in hostile(field.type, sent[field.name]):
                    yield f"{field.name}: {what}", sent | {field.name: changed}
        case shape.UnionType(types=members):
            for member in members:
                if isinstance(member, shape.StructType) and isinstance(sent, dict):
                    if sent.get("type") == member.cls.__name__:
                        yield from hostile(member, sent)
                elif not isinstance(member, shape.NoneType) and sent is not None:
                    yield from hostile(member, sent)
        case shape.IntType() | shape.FloatType():
            yield "text", "7"
            if info.ge is not None:
                yield "low", info.ge - 1
            if info.le is not None:
                yield "high", info.le * 2 + 1
            if isinstance(info, shape.FloatType):
                yield "nan", math.nan
        case shape.StrType():
            yield "number", 7
            yield "long", "a" * ((info.max_length or 100_000) + 1)
            if info.pattern is not None:
                yield "control", "a\x1b"
                yield "line", "a\nb"
        case shape.BytesType(max_length=longest):
            yield "long", bytes((longest or MAX_FRAME_BYTES) + 1)
        case shape.EnumType():
            yield "unknown", "no such member"
        case shape.BoolType():
            yield "text", "yes"
        case shape.DateTimeType() | shape.CustomType():
            yield "number", 7
        case shape.VarTupleType(item_type=item, max_length=most):
            yield "no list", 7
            if sent:
                yield "many", sent[:1] * ((most or 10_000) + 1)
                for what, changed in hostile(item, sent[0]):
                    yield what, [changed, *sent[1:]]
        case shape.TupleType(item_types=items):
            yield "no list", 7
            yield "one more", [*sent, sent[-1]]
            for at, item in enumerate(items):
                for what, changed in hostile(item, sent[at]):
                    yield what, [*sent[:at], changed, *sent[at + 1 :]]
        case shape.DictType(max_length=most):
            yield "no map", 7
            yield "many", {f"a{k}": "b" for k in range((most or 10_000) + 1)}
            yield "path for a key", {"../a": "b"}
        case _:
            return


@pytest.mark.parametrize("kind", ROOTS, ids=lambda kind: kind.__name__)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_whatever_else_stands_in_its_place_is_refused(
    kind: type[Value], data: st.DataObject
) -> None:
    sent = plain(data.draw(values(kind)))
    for what, changed in hostile(shape.type_info(kind), sent):
        assert refused(kind, msgspec.msgpack.encode(changed)), what


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    for read in (frames.decode_from_worker, frames.decode_to_worker):
        with pytest.raises(ProtocolError):
            read(data)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_frame_is_a_frame_or_refused(
    data: st.DataObject, position: int, byte: int
) -> None:
    frame = bytearray(encode(data.draw(st.sampled_from(FRAMES).flatmap(values))))
    frame[position % len(frame)] = byte
    for read in (frames.decode_from_worker, frames.decode_to_worker):
        with contextlib.suppress(ProtocolError):
            read(bytes(frame))


def test_a_start_record_survives_as_one_line() -> None:
    record = StartRecord("link", bytes(range(32)), "cpu:0", "cpu", Path("/spool"), "info", 7)
    line = record.to_bytes()
    assert line.count(b"\n") == 1
    assert StartRecord.from_bytes(line) == record
    with pytest.raises(ValueError, match="no value"):
        StartRecord.from_bytes(b"")
    with pytest.raises(ValueError, match="declared"):
        decode_json(StartRecord, b"{}")
