"""Every header that would hurt a reader is refused before data is touched."""

from __future__ import annotations

import io
import json
import struct

import pytest
import safetensors

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.safetensors_header import (
    MAX_HEADER_BYTES,
    parse_header,
    read_header,
)
from tests.domains.model.disk import files_at


def entry(dtype="F16", shape=(2, 3), start=0, end=12):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def file_of(header, data=b"\0" * 12):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def parse(content):
    return parse_header(io.BytesIO(content), len(content))


def reason_of(content):
    with pytest.raises(FailedPrecondition) as caught:
        parse(content)
    return caught.value.reason


def test_a_good_header_tells_where_everything_is():
    content = file_of(
        {
            "__metadata__": {"format": "pt"},
            "b": entry(start=4, end=16),
            "a": entry(dtype="F32", shape=(), start=0, end=4),
        },
        b"\1" * 16,
    )
    header = parse(content)
    assert [tensor.name for tensor in header.tensors] == ["a", "b"]
    assert header.tensors[0].shape == ()
    assert header.tensors[1].parameter_count == 6
    assert header.tensors[1].offset + header.tensors[1].size_bytes == len(content)
    assert header.metadata == {"format": "pt"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.MODEL_TRUNCATED),
        (b"\x10\0\0", Reason.MODEL_TRUNCATED),
        (struct.pack("<Q", 2**64 - 1) + b"{}", Reason.MODEL_HEADER_TOO_LARGE),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1), Reason.MODEL_HEADER_TOO_LARGE),
        (struct.pack("<Q", 100) + b"{}", Reason.MODEL_TRUNCATED),
        (file_of({"a": entry()}, b"\0" * 11), Reason.MODEL_TRUNCATED),
        (file_of({"a": entry()}, b"\0" * 13), Reason.MODEL_SHAPE_INVALID),
        (file_of(b"not json at all"), Reason.MODEL_HEADER_INVALID),
        (file_of(b"[" * 60_000), Reason.MODEL_HEADER_INVALID),
        (file_of(b"[" * 200_000), Reason.MODEL_HEADER_TOO_LARGE),
        (file_of(b"[1, 2]"), Reason.MODEL_HEADER_INVALID),
        (file_of(b"\xff\xfe{}"), Reason.MODEL_HEADER_INVALID),
        (file_of({}), Reason.MODEL_HEADER_INVALID),
        (file_of({"__metadata__": {"x": 1}, "a": entry()}), Reason.MODEL_HEADER_INVALID),
        (file_of({"a": 5}), Reason.MODEL_HEADER_INVALID),
        (file_of({"a": entry() | {"extra": 1}}), Reason.MODEL_HEADER_INVALID),
        (file_of({"a": entry(shape=[-1])}), Reason.MODEL_SHAPE_INVALID),
        (file_of({"a": entry(shape=[True, 6])}), Reason.MODEL_SHAPE_INVALID),
        (file_of({"a": entry(shape=[0, 1 << 40])}), Reason.MODEL_SHAPE_INVALID),
        (file_of({"a": entry(shape=[1] * 9)}), Reason.MODEL_SHAPE_INVALID),
        (file_of({"a": entry(shape=[1 << 31] * 8)}), Reason.MODEL_SHAPE_INVALID),
        (file_of({"a": entry(end=14)}), Reason.MODEL_SHAPE_INVALID),
        (file_of({"a": entry(start=-12, end=0)}), Reason.MODEL_SHAPE_INVALID),
        (file_of({"a": entry(), "b": entry()}), Reason.MODEL_SHAPE_INVALID),
        (file_of({"a": entry(start=2, end=14)}, b"\0" * 14), Reason.MODEL_SHAPE_INVALID),
        (file_of({"a": entry(dtype="F4")}), Reason.MODEL_DTYPE_UNSUPPORTED),
        (file_of({"a": entry(dtype="<script>")}), Reason.MODEL_DTYPE_UNSUPPORTED),
        (file_of({"a\0b\u202e": entry()}), Reason.MODEL_TENSOR_NAME_INVALID),
        (file_of({"a" * 513: entry()}), Reason.MODEL_TENSOR_NAME_INVALID),
        (file_of({"../a": entry()}), Reason.MODEL_TENSOR_NAME_INVALID),
        (b"PK\x03\x04" + b"\0" * 100, Reason.MODEL_FORMAT_UNSUPPORTED),
        (b"\x80\x02}q\x00(X" + b"\0" * 100, Reason.MODEL_FORMAT_UNSUPPORTED),
        (b"<!DOCTYPE html><html>", Reason.MODEL_FORMAT_UNSUPPORTED),
        (b"version https://git-lfs.github.com/spec/v1", Reason.MODEL_FORMAT_UNSUPPORTED),
    ],
)
def test_bad_headers(content, reason):
    assert reason_of(content) is reason


def test_empty_tensors_take_no_place():
    """Also where they begin with, between and behind others, and alone."""
    content = file_of(
        {
            "behind": entry(shape=(3, 0), start=12, end=12),
            "full": entry(start=0, end=12),
            "before": entry(dtype="F32", shape=(0,), start=0, end=0),
        }
    )
    header = parse(content)
    assert [tensor.name for tensor in header.tensors] == ["before", "full", "behind"]
    assert [tensor.parameter_count for tensor in header.tensors] == [0, 6, 0]
    (alone,) = parse(file_of({"a": entry(shape=(0, 4), end=0)}, b"")).tensors
    assert (alone.shape, alone.size_bytes) == ((0, 4), 0)


@pytest.mark.parametrize(
    ("header", "size"),
    [
        pytest.param({"a": entry(), "b": entry()}, 12, id="overlap"),
        pytest.param({"a": entry(start=2, end=14)}, 14, id="gap"),
        pytest.param({"a": entry()}, 13, id="bytes of no tensor"),
        pytest.param({"a": entry(end=14)}, 14, id="size of another shape"),
        pytest.param({"a": entry(shape=(0,), start=4, end=4), "b": entry()}, 12, id="inside"),
        pytest.param({"a": entry(shape=(0,), end=0), "b": entry()}, 12, id="empty"),
        pytest.param({"a": entry()}, 12, id="good"),
    ],
)
def test_places_are_judged_as_the_usual_library_does(header, size):
    content = file_of(header, bytes(size))
    try:
        safetensors.deserialize(content)
    except safetensors.SafetensorError:
        assert reason_of(content) is Reason.MODEL_SHAPE_INVALID
    else:
        assert len(parse(content).tensors) == len(header)


def test_what_the_usual_library_lets_pass_is_refused():
    one = json.dumps(entry())
    for content in (
        file_of(f'{{"a": {one}, "a": {one}}}'.encode()),
        file_of({"../a": entry()}),
        file_of({"a": entry(), "__metadata__": {"x": "y" * MAX_HEADER_BYTES}}),
    ):
        assert safetensors.deserialize(content)
        reason_of(content)


@pytest.mark.parametrize("constant", ["NaN", "Infinity"])
def test_numbers_that_are_none(constant):
    raw = b'{"a": {"dtype": "F16", "shape": [%s], "data_offsets": [0, 12]}}'
    assert reason_of(file_of(raw % constant.encode())) is Reason.MODEL_HEADER_INVALID


def test_duplicate_names():
    one = json.dumps(entry())
    raw = f'{{"a": {one}, "a": {one}}}'.encode()
    assert reason_of(file_of(raw)) is Reason.MODEL_HEADER_INVALID


def test_a_header_of_640_bytes_is_no_pickle():
    raw = json.dumps({"a": entry()}).encode().ljust(0x280)
    assert parse(file_of(raw)).tensors[0].name == "a"


def test_a_missing_file(tmp_path):
    with pytest.raises(FailedPrecondition) as caught:
        read_header(files_at(tmp_path / "none.safetensors"))
    assert caught.value.reason is Reason.MODEL_INCOMPLETE
    assert str(tmp_path) not in caught.value.message


def test_the_same_tensors_are_known_again_wherever_their_data_begin():
    table = {
        f"layer.{number}": entry(start=12 * number, end=12 * number + 12) for number in (1, 0)
    }
    said = ({"a": "short"}, {"a": "much longer than before é"}, {"b": "x" * 300})
    contents = [file_of({"__metadata__": one} | table, b"\0" * 24) for one in said]
    headers = [parse(content) for content in contents]
    bare = parse(file_of(table, b"\0" * 24))

    assert [header.metadata for header in headers] == list(said)
    assert len({header.layout for header in headers}) == 1
    assert len({header.digest for header in headers}) == 3
    for header, content in zip(headers, contents, strict=True):
        starts = [tensor.offset for tensor in header.tensors]
        assert starts == [len(content) - 24, len(content) - 12]
    assert [tensor.name for tensor in bare.tensors] == ["layer.0", "layer.1"]
    assert bare.metadata == {}


@pytest.mark.parametrize("metadata", [{}, {"__metadata__": {"a": "b"}}])
def test_known_tensors_excuse_nothing_else_of_a_file(metadata):
    header = metadata | {"known.again": entry()}
    assert parse(file_of(header)).layout
    assert reason_of(file_of(header, b"\0" * 11)) is Reason.MODEL_TRUNCATED
    assert reason_of(file_of(header, b"\0" * 13)) is Reason.MODEL_SHAPE_INVALID
    wrong = {"__metadata__": {"a": 1}, "known.again": entry()}
    assert reason_of(file_of(wrong)) is Reason.MODEL_HEADER_INVALID
    twice = json.dumps({"__metadata__": {}, "known.again": entry()}).encode()
    again = twice[:-1] + b', "__metadata__": {}}'
    assert reason_of(file_of(again)) is Reason.MODEL_HEADER_INVALID


def test_metadata_amid_tensors_are_read_each_time():
    for word in ("one", "two"):
        header = parse(
            file_of(
                {
                    "a": entry(),
                    "__metadata__": {"said": word},
                    "b": entry(start=12, end=24),
                },
                b"\0" * 24,
            )
        )
        assert header.metadata == {"said": word}
        assert not header.layout
        assert [tensor.name for tensor in header.tensors] == ["a", "b"]
