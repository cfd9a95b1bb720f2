"""The checks that apply the limits: each accepts its edges and refuses what lies beyond."""

from __future__ import annotations

import math
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains import checks
from domains.errors import FieldViolation, Reason
from domains.limits import LIMITS, Limit

PATH = "settings.value"
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
LINE = Limit("Message.label", max_characters=8)
PROSE = LIMITS["GenerationSettings.prompt"]


def refused(violation: FieldViolation | None) -> Reason:
    assert violation is not None
    assert violation.field == PATH
    assert violation.description.endswith(".")
    return violation.reason


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        LIMITS["GenerationSettings.steps"] = LINE  # type: ignore[index]


@pytest.mark.parametrize(
    "name", [n for n, limit in LIMITS.items() if limit.minimum is not None]
)
def test_the_edges_of_every_range_are_accepted_and_what_lies_beyond_is_not(name: str) -> None:
    limit = LIMITS[name]
    assert limit.minimum is not None
    assert limit.maximum is not None
    for edge in (limit.minimum, limit.maximum):
        assert checks.number(PATH, edge, limit) is None
    step = limit.multiple_of or (1 if float(limit.maximum).is_integer() else 1e-9)
    for beyond in (limit.minimum - step, limit.maximum + step):
        assert refused(checks.number(PATH, beyond, limit)) is Reason.FIELD_OUT_OF_RANGE


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("limit", [LIMITS["LoraWeight.weight"], LINE], ids=["ranged", "free"])
def test_numbers_are_finite(value: float, limit: Limit) -> None:
    assert refused(checks.number(PATH, value, limit)) is Reason.NON_FINITE_NUMBER


def test_a_number_beside_the_grid_is_refused_with_the_range_and_the_grid() -> None:
    violation = checks.number(
        PATH, 1020, LIMITS["GenerationSettings.width"], reason=Reason.DIMENSIONS_INVALID
    )
    assert violation == FieldViolation(
        PATH,
        Reason.DIMENSIONS_INVALID,
        "Must be from 256 to 2048 pixels and a multiple of 8.",
    )


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (Limit("M.f", minimum=0.1, maximum=3600, unit="seconds"), "from 0.1 to 3600 seconds"),
        (Limit("M.f", minimum=1), "at least 1"),
        (Limit("M.f", maximum=9), "at most 9"),
        (Limit("M.f"), "a finite number"),
    ],
)
def test_what_a_field_accepts_is_said_in_words(limit: Limit, sentence: str) -> None:
    assert checks.accepted(limit) == sentence


def test_a_list_may_have_as_many_elements_as_its_limit_says() -> None:
    limit = LIMITS["GenerationSettings.loras"]
    assert checks.elements(PATH, 64, limit) is None
    assert refused(checks.elements(PATH, 65, limit)) is Reason.TOO_MANY_ELEMENTS
    assert checks.elements(PATH, 10**9, LINE) is None


def test_bytes_may_be_as_many_as_the_limit_says() -> None:
    limit = LIMITS["InputImage.inline"]
    assert checks.size(PATH, 3145728, limit) is None
    too_many = checks.size(PATH, 3145729, limit, reason=Reason.IMAGE_TOO_LARGE)
    assert refused(too_many) is Reason.IMAGE_TOO_LARGE
    assert checks.size(PATH, 10**12, LINE) is None


def test_length_counts_characters_not_bytes() -> None:
    assert checks.line(PATH, "\N{DOG FACE}" * 8, LINE) is None
    assert refused(checks.line(PATH, "\N{DOG FACE}" * 9, LINE)) is Reason.TEXT_TOO_LONG
    assert refused(checks.prose(PATH, "a" * 10001, PROSE)) is Reason.TEXT_TOO_LONG


@pytest.mark.parametrize("character", ["\n", "\r", "\t", *BIDI, "\u2028", "\u2029"])
def test_prompts_hold_what_lines_of_text_do_not(character: str) -> None:
    assert checks.prose(PATH, f"a{character}b", PROSE) is None
    assert refused(checks.line(PATH, f"a{character}b", LINE)) is Reason.TEXT_INVALID


@pytest.mark.parametrize("character", ["\0", "\x01", "\x1b", "\x7f", "\x85", "\x9f"])
def test_no_text_holds_control_characters(character: str) -> None:
    assert refused(checks.prose(PATH, f"a{character}", PROSE)) is Reason.TEXT_INVALID
    assert refused(checks.line(PATH, f"a{character}", LINE)) is Reason.TEXT_INVALID


@pytest.mark.parametrize("text", ["", "красный", "犬と梨", "e\u0301", "\N{DOG FACE}", "ab c"])
def test_any_language_is_welcome(text: str) -> None:
    assert checks.line(PATH, text, LINE) is None
    assert checks.prose(PATH, text, PROSE) is None


def test_a_refused_text_is_not_repeated() -> None:
    violation = checks.prose(PATH, "a secret prompt\0", PROSE)
    assert violation is not None
    assert violation.description == "Must not hold U+0000, found at position 15."


@pytest.mark.parametrize(
    "name",
    ["a", "7", "sd_xl_base-1.0", "A.b.C", "a" * 127, "console", "com10", "nulls.x", "lpt"],
)
def test_names_that_are_accepted(name: str) -> None:
    assert checks.name(PATH, name) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 128,
        ".hidden",
        "-flag",
        "_x",
        "a/b",
        "a\\b",
        "a b",
        "a ",
        "a.",
        "a..b",
        "..",
        "cuda:0",
        "C:",
        "naïve",
        "a\n",
        "a\0",
        "\u202ea",
        "con",
        "NUL",
        "Aux.safetensors",
        "com1",
        "LPT9.txt.gz",
    ],
)
def test_names_that_are_refused(name: str) -> None:
    assert refused(checks.name(PATH, name)) is Reason.NAME_INVALID


@given(st.text(max_size=130))
def test_an_accepted_name_is_one_part_of_a_path(name: str) -> None:
    if checks.name(PATH, name) is None:
        assert name.isascii()
        assert not set(name) & set('/\\:*?"<>| \n\r\t\0')
        assert name not in (".", "..")
        assert name[-1] not in ". "


@pytest.mark.parametrize("device", ["cpu:0", "cuda:1", "gpu", "privateuseone:0"])
def test_devices_are_named_with_their_number(device: str) -> None:
    assert checks.device_id(PATH, device) is None


@pytest.mark.parametrize("device", ["", ":0", "cuda 0", "../cuda", "cuda:0\n", "a" * 128])
def test_device_ids_that_are_refused(device: str) -> None:
    assert refused(checks.device_id(PATH, device)) is Reason.NAME_INVALID


@given(st.uuids())
def test_any_uuid_is_a_request_id(value: uuid.UUID) -> None:
    assert checks.request_id(PATH, str(value)) is None
    assert checks.request_id(PATH, str(value).upper()) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1",
        "00000000-0000-0000-0000-000000000000",
        "{2f1b6f0e-1f0c-4b3a-9a53-5f1d3a7f9e11}",
        "2f1b6f0e1f0c4b3a9a535f1d3a7f9e11",
        "2f1b6f0e-1f0c-4b3a-9a53-5f1d3a7f9e11\n",
        "2f1b6f0e-1f0c-4b3a-9a53-5f1d3a7f9e1g",
    ],
)
def test_other_texts_are_no_request_ids(value: str) -> None:
    assert refused(checks.request_id(PATH, value)) is Reason.REQUEST_ID_INVALID


def test_a_hash_has_64_lower_case_digits() -> None:
    assert checks.sha256(PATH, "0f" * 32) is None
    for wrong in ("", "0F" * 32, "0f" * 31, "0f" * 32 + "\n", "zz" * 32):
        assert refused(checks.sha256(PATH, wrong)) is Reason.NAME_INVALID


def test_required_fields_are_set_and_not_empty() -> None:
    empties: list[object] = [None, "", b"", (), []]
    for empty in empties:
        assert refused(checks.required(PATH, empty)) is Reason.REQUIRED_FIELD_MISSING
    for value in ("a", b"a", (1,), 0, 0.0, False):
        assert checks.required(PATH, value) is None
