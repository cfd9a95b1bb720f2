"""Every kind of file that people have is recognised for what it is, by its header alone."""

from __future__ import annotations

import pytest

from domains.model.backends.recognition import Recognised, Tensors, recognise
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


def test_there_are_many_kinds() -> None:
    told = {(sample.type, sample.architecture, sample.kind) for sample in kinds().values()}

    assert len(told) >= 80


def test_of_nothing_nothing_is_told() -> None:
    assert recognise(Tensors({})) == Recognised(None)
    assert recognise(Tensors({"x": (1,)})) == Recognised(None)
