"""Every kind of file that people have is recognised for what it is, by its header alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.model.backends.embedding_file import parse_embedding
from domains.model.backends.lora.file import parse_lora
from domains.model.backends.recognition import Recognised, Tensors, recognise
from domains.model.backends.safetensors_header import Header, Table, TensorEntry
from domains.model.backends.usability import usability
from tests.domains.model.corpus.kinds import kinds


@pytest.mark.parametrize("name", kinds())
def test_a_file_is_recognised_for_what_it_is(name: str) -> None:
    sample = kinds()[name]

    found = recognise(Tensors(sample.shapes, sample.data_types, sample.metadata))

    assert (found.type, found.architecture, found.kind) == (
        sample.type,
        sample.architecture,
        sample.kind,
    )
    assert {key: getattr(found, key) for key in sample.told} == dict(sample.told)


def test_a_description_that_speaks_of_a_distilled_model_makes_none() -> None:
    said = {"modelspec.description": "Goes well with a lightning LoRA of 4 steps"}

    found = recognise(Tensors(kinds()["sdxl"].shapes, metadata=said))

    assert (found.kind, found.distilled_steps) == ("", 0)


def test_there_are_many_kinds() -> None:
    told = {(sample.type, sample.architecture, sample.kind) for sample in kinds().values()}

    assert len(told) >= 80


def test_of_nothing_nothing_is_told() -> None:
    assert recognise(Tensors({})) == Recognised(None)
    assert recognise(Tensors({"x": (1,)})) == Recognised(None)


NAMES = sorted({name for sample in kinds().values() for name in sample.shapes})[::7]
SHAPES = st.lists(st.sampled_from((0, 1, 3, 4, 16, 768, 2048, 1 << 31)), max_size=5)


@given(st.dictionaries(st.sampled_from(NAMES), SHAPES.map(tuple), max_size=12))
def test_no_names_and_shapes_are_too_strange(shapes: dict[str, tuple[int, ...]]) -> None:
    """Headers come from anywhere: each is told something or nothing, and never raises."""
    entries = tuple(TensorEntry(name, "F16", shape, 0, 0) for name, shape in shapes.items())
    header = Header(Table(entries), {}, 0, b"")

    found = recognise(Tensors.of(header))

    usable = usability(found)
    assert usable.problem is not None or found.type is not None
    assert len(found.kind) <= 64
    assert all(len(remark) <= 512 for remark in usable.remarks)
    parse_lora(header)
    if entries:
        parse_embedding(header)


@pytest.mark.parametrize("name", kinds())
def test_a_part_of_a_file_is_told_something_or_nothing(name: str) -> None:
    """What was cut off in the middle of a name table may be of any kind; it never raises."""
    sample = kinds()[name]
    names = list(sample.shapes)
    for kept in (names[:1], names[: len(names) // 2], names[len(names) // 2 :]):
        recognise(Tensors({name: sample.shapes[name] for name in kept}))
