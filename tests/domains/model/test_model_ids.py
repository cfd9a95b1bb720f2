"""Ids of models: fit to be ids, unique, and not changed by their neighbours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains import checks
from domains.model.backends.model_ids import fit, unique_ids


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("emoji-xl", "emoji-xl"),
        ("Modèle été (v1.5)", "Modele-ete-v1.5"),
        (".hidden..name.", "hidden.name"),
        ("日本語", "model"),
        ("NUL", "model-NUL"),
        ("x" * 300, "x" * 100),
    ],
)
def test_a_name_becomes_the_closest_id(name: str, expected: str) -> None:
    assert fit(name) == expected


@given(st.text(max_size=300))
def test_every_name_has_an_id(name: str) -> None:
    assert checks.name("model_id", fit(name)) is None


def test_the_first_keeps_the_name_and_others_do_not_depend_on_each_other() -> None:
    alone = unique_ids([("a", "0/a"), ("A", "0/x/A")])
    crowded = unique_ids([("a", "0/a"), ("a", "0/b/a"), ("A", "0/x/A")])

    assert alone[0] == crowded[0] == "a"
    assert alone[1] == crowded[2]
    assert len({model_id.lower() for model_id in crowded}) == 3


@given(st.lists(st.text("aA-", max_size=2), max_size=30))
def test_ids_are_unique_in_any_case(names: list[str]) -> None:
    ids = unique_ids([(name, str(place)) for place, name in enumerate(names)])

    assert len({model_id.lower() for model_id in ids}) == len(names)
    assert all(checks.name("model_id", model_id) is None for model_id in ids)
