"""Forms of nested arguments as keys, whether or not torch can hash them itself."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils import _pytree as pytree

from domains.inference.backends import tree_forms
from domains.inference.backends.tree_forms import as_key


def key_of(tree: Any) -> Any:
    return as_key(pytree.tree_flatten(tree)[1])


@pytest.mark.parametrize("hashable", [None, False])
def test_keys_are_equal_for_equal_forms_alone(
    monkeypatch: pytest.MonkeyPatch, hashable: bool | None
) -> None:
    if hashable is not None:
        monkeypatch.setattr(tree_forms, "_HASHABLE", hashable)
    forms = [
        (1, {"a": 2}),
        (1, {"b": 2}),
        (1, {"a": [2]}),
        (1, {"a": (2,)}),
        (1, {"a": None}),
        (1, {"a": 2, "b": 3}),
        [1, {"a": 2}],
    ]
    keys = {key_of(each) for each in forms}
    assert len(keys) == len(forms) - 1, "None is a leaf as any other"
    assert key_of((7, {"a": "x"})) in keys
