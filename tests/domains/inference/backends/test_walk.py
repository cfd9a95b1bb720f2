"""Walking the layers of a network, against torch's own ways."""

from __future__ import annotations

from weakref import ref

import pytest
import torch
from torch import nn

from domains.inference.backends import walk
from domains.inference.backends.walk import (
    Layers,
    buffers_of,
    data_type_of,
    modules_of,
    parameters_of,
    values_of,
)


def network() -> nn.Module:
    """Layers within layers, one of them twice, tied weights, missing parts."""
    shared = nn.Linear(3, 3, bias=False)
    block = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ModuleList([shared]))
    made = nn.ModuleDict({"block": block, "again": shared, "tied": nn.Linear(3, 3)})
    tied = made["tied"]
    assert isinstance(tied, nn.Linear)
    tied.weight = shared.weight
    made["empty"] = nn.Sequential()
    made.register_module("missing", None)
    made.register_buffer("table", torch.zeros(2))
    made.register_buffer("none", None)
    return made


def ids(found: object) -> set[int]:
    assert isinstance(found, list)
    assert len({id(one) for one in found}) == len(found)
    return {id(one) for one in found}


def test_every_layer_and_tensor_is_found_once() -> None:
    made = network()
    modules = modules_of(made)
    assert ids(modules) == ids(list(made.modules()))
    assert ids(parameters_of(modules)) == ids(list(made.parameters()))
    assert ids(buffers_of(modules)) == ids(list(made.buffers()))
    assert [id(one) for one in modules_of(made)] == [id(one) for one in modules]


def test_layers_are_walked_anew_where_one_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[nn.Module] = []
    monkeypatch.setattr(walk, "modules_of", lambda one: walked.append(one) or modules_of(one))
    made, layers = network(), Layers()

    def found(walks: int) -> None:
        assert ids([made, *layers.of(made).below]) == ids(list(made.modules()))
        assert len(walked) == walks

    found(1)
    made["tied"].weight = nn.Parameter(torch.ones(3, 3))  # its layers are the same
    found(1)
    block = made["block"]
    assert isinstance(block, nn.Sequential)
    block[0] = nn.Conv2d(1, 2, 1)
    found(2)
    block[1].register_module("within", nn.ReLU())  # in one that had none
    found(3)
    del block[2]
    found(4)
    found(4)
    other = network()
    assert ids([other, *layers.of(other).below]) == ids(list(other.modules()))
    found(6)


def test_known_layers_keep_no_network() -> None:
    made, layers = network(), Layers()
    gone, below = ref(made), ref(made["tied"])
    layers.of(made)
    del made
    assert gone() is below() is None
    again = network()
    assert ids(layers.of(again).below) == ids(list(again.modules())[1:])


def test_tables_tell_what_layers_have_at_each_time() -> None:
    """Also what was put there after they were found."""
    made = network()
    tables = Layers().of(made)
    tied, block = made["tied"], made["block"]
    assert isinstance(tied, nn.Linear)
    assert isinstance(block, nn.Sequential)
    tied.bias = nn.Parameter(torch.ones(3))
    block[0].register_buffer("late", torch.ones(1))
    hook = block.register_forward_hook(lambda *_: None)
    made.register_forward_pre_hook(lambda *_: None)

    tensors = [one for one in values_of(tables.tensors) if one is not None]
    wanted = [*made.parameters(), *made.buffers(), tied.weight]  # which is in two places
    assert sorted(map(id, tensors)) == sorted(map(id, wanted))
    assert len(list(values_of(tables.hooks))) == len(list(values_of(tables.hooks_before))) == 1
    hook.remove()
    assert not any(tables.hooks)


def test_a_type_is_told_without_the_whole_walk() -> None:
    made = network()
    assert data_type_of(made) is torch.float32
    assert data_type_of(made.half()) is torch.float16
    assert data_type_of(nn.Sequential(nn.ReLU(), nn.Sequential())) is None
