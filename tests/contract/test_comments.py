"""The contract's own rules: units, enums, paging, what C# and both generators need."""

from __future__ import annotations

import re

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from domains.limits import LIMITS
from tests.contract import protos

_NUMBERS = frozenset(
    {
        FieldDescriptorProto.TYPE_DOUBLE,
        FieldDescriptorProto.TYPE_FLOAT,
        FieldDescriptorProto.TYPE_INT32,
        FieldDescriptorProto.TYPE_INT64,
    }
)
_UNITS = {
    "bytes": r"bytes",
    "ms": r"milliseconds",
    "pixels": r"pixels",
    "celsius": r"degrees Celsius",
    "watts": r"watts",
    "gbps": r"10\^9 bytes per second",
    "tflops": r"10\^12 operations per second",
    "second": r"megapixels per second",
}
# Fields whose name carries its unit by convention of the trade, not by an ending.
_PIXELS_BY_NAME = re.compile(r"^(native_)?(width|height)$|^(left|top|right|bottom)$")
# Members that C# gives every message, and so no field can have.
_CSHARP_MEMBERS = frozenset(
    {
        "Descriptor",
        "Parser",
        "Types",
        "Clone",
        "Equals",
        "GetHashCode",
        "GetType",
        "ToString",
        "WriteTo",
        "CalculateSize",
        "MergeFrom",
    }
)
# Lists that are as long as the machine has devices or the server has parts.
_SHORT_LISTS = {
    "ListDevices": "as many as the machine has",
    "ListPostprocessors": "as many as are installed",
}


def pascal(name: str) -> str:
    """What the C# generator calls a field."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


def test_numbers_with_a_unit_have_it_in_their_name() -> None:
    unnamed = []
    for field in protos.fields(protos.public()):
        if field.proto.type not in _NUMBERS:
            continue
        for ending, words in _UNITS.items():
            by_name = ending == "pixels" and _PIXELS_BY_NAME.search(field.proto.name)
            # A unit in the middle of a sentence is about something else.
            said = re.search(rf"\bin {words}\b|^{words.capitalize()}\b", field.comment)
            if said and not field.proto.name.endswith(ending) and not by_name:
                unnamed.append(f"{field.name}: {field.comment}")
    assert unnamed == []


def test_sizes_are_bytes_and_whole() -> None:
    wrong = [
        field.name
        for field in protos.fields(protos.public())
        if re.search(r"(^|_)(size|memory|bytes)$", field.proto.name)
        and field.proto.type in _NUMBERS
        and field.proto.name != "page_size"
        and not (field.proto.name.endswith("_bytes") and _is_64_bits(field.proto))
    ]
    assert wrong == []


def test_times_are_timestamps_and_durations() -> None:
    """Only statistics of many short times count in milliseconds, as doubles."""
    timed = re.compile(r"(^|_)(timeout|time|duration|interval|delay|age|ttl|seconds|ms)$")
    wrong = [
        field.name
        for field in protos.fields(protos.public())
        if timed.search(field.proto.name)
        and field.proto.type in _NUMBERS
        and field.message != "DurationStatistics"
    ]
    assert wrong == []


def test_fractions_are_doubles() -> None:
    floats = [
        field.name
        for field in protos.fields(protos.public())
        if field.proto.type == FieldDescriptorProto.TYPE_FLOAT
    ]
    assert floats == []


def test_numbers_whose_unset_differs_from_zero_have_presence() -> None:
    """A default other than 0 needs `optional`, except page sizes, whose 0 says default."""
    hidden = [
        field.name
        for field in protos.fields(protos.public())
        if field.proto.type in _NUMBERS
        and field.proto.label != FieldDescriptorProto.LABEL_REPEATED
        and (limit := LIMITS.get(field.name)) is not None
        and limit.default
        and not field.proto.proto3_optional
        and field.proto.name != "page_size"
    ]
    assert hidden == []


def test_enums_begin_with_unspecified_and_carry_their_name() -> None:
    for enum in protos.enums(protos.public()):
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.proto.name).upper()
        # KDPM2 and the like are words of their own; the generator's rule decides.
        first = enum.proto.value[0]
        assert first.number == 0
        assert first.name.endswith("_UNSPECIFIED")
        stem = first.name.removesuffix("UNSPECIFIED")
        assert stem.replace("_", "") == prefix.replace("_", "")
        assert all(value.name.startswith(stem) for value in enum.proto.value)
        assert all(value.name.removeprefix(stem)[0].isalpha() for value in enum.proto.value)


def test_a_default_in_words_is_a_value_of_the_enum() -> None:
    """ "Default: PNG." on an enum field, and a 0 value's comment that names its meaning."""
    values = {
        enum.proto.name: {value.name for value in enum.proto.value}
        for enum in protos.enums(protos.public())
    }
    prefixes = {
        enum.proto.name: enum.proto.value[0].name.removesuffix("UNSPECIFIED")
        for enum in protos.enums(protos.public())
    }
    checked = 0
    for field in protos.fields(protos.public()):
        match = re.search(r"Default: ([A-Z][A-Z0-9_]+)\.", field.comment)
        if match:
            enum = field.proto.type_name.rpartition(".")[2]
            assert prefixes[enum] + match[1] in values[enum], field.name
            checked += 1
    for one in protos.enums(protos.public()):
        match = re.fullmatch(r"([A-Z][A-Z0-9_]+)\.", one.comments[one.proto.value[0].name])
        if match:
            name = one.proto.name
            assert prefixes[name] + match[1] in values[name]
            checked += 1
    assert checked > 20


def test_lists_page() -> None:
    messages = protos.messages(protos.public())
    for method in protos.methods(protos.public()):
        if not method.name.startswith(("List", "Search")):
            continue
        request = {field.name for field in messages[method.request].field}
        response = {field.name for field in messages[method.response].field}
        paged = {"page_size", "page_token"} <= request and "next_page_token" in response
        assert paged != (method.name in _SHORT_LISTS), method.name


def test_every_session_starts_with_options_and_sends_events() -> None:
    messages = protos.messages(protos.public())
    for method in protos.methods(protos.public()):
        request = {field.name for field in messages[method.request].field}
        kinds = {
            field.type_name.rpartition(".")[2] for field in messages[method.response].field
        }
        # Batches run on after their call; watches start nothing, GetSession and UpdateSession
        # neither.
        if method.name in {"CreateBatch", "GetSession", "UpdateSession"}:
            continue
        if method.name.startswith("Watch"):
            assert "options" not in request, method.name
            continue
        assert ("options" in request) == ("SessionEvent" in kinds), method.name
        assert ("delivery" in request) == ("SessionEvent" in kinds), method.name


def test_every_stream_of_a_session_has_one_shape() -> None:
    """One event and nothing else, so that a client has one way to read every stream."""
    messages = protos.messages(protos.public())
    shapes = {
        method.name: [(field.name, field.number) for field in messages[method.response].field]
        for method in protos.methods(protos.public())
        if any(
            field.type_name.endswith(".SessionEvent")
            for field in messages[method.response].field
        )
        and method.name != "GetSession"
    }
    assert len(shapes) > 20
    assert {name for name, shape in shapes.items() if shape != [("event", 1)]} == set()


def test_no_file_outgrows_a_reader() -> None:
    lines = {
        path.name: path.read_text("utf-8").count("\n")
        for path in (protos.ROOT / protos.PUBLIC).glob("*.proto")
    }
    assert {name: count for name, count in lines.items() if count >= 500} == {}
    assert len(lines) > 20


def test_integers_are_signed() -> None:
    unsigned = {
        FieldDescriptorProto.TYPE_UINT32,
        FieldDescriptorProto.TYPE_UINT64,
        FieldDescriptorProto.TYPE_FIXED32,
        FieldDescriptorProto.TYPE_FIXED64,
    }
    assert [f.name for f in protos.fields(protos.public()) if f.proto.type in unsigned] == []


def test_names_are_free_in_csharp() -> None:
    taken = []
    for name, message in protos.messages(protos.public()).items():
        members = [pascal(field.name) for field in message.field]
        members += [f"{pascal(field.name)}FieldNumber" for field in message.field]
        members += [
            f"{prefix}{pascal(field.name)}"
            for field in message.field
            if field.proto3_optional or field.HasField("oneof_index")
            for prefix in ("Has", "Clear")
        ]
        real = [o.name for o in message.oneof_decl if not o.name.startswith("_")]
        members += [
            f"{pascal(one)}{ending}" for one in real for ending in ("Case", "OneofCase")
        ]
        members += [f"Clear{pascal(one)}" for one in real]
        taken += [f"{name}.{member}" for member in members if member in _CSHARP_MEMBERS]
        taken += [f"{name}.{member}" for member in members if member == name]
        taken += [f"{name}.{m} twice" for m in set(members) if members.count(m) > 1]
    assert taken == []


def test_every_file_has_the_csharp_namespace() -> None:
    assert {file.options.csharp_namespace for file in protos.public()} == {
        "DeviceOperations.V1"
    }


def _is_64_bits(field: FieldDescriptorProto) -> bool:
    return field.type == FieldDescriptorProto.TYPE_INT64
