"""What steps share is computed before them, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from domains.inference.backends.compiled.hoisting import Halves, halved

SAMPLE, TEXT, WEIGHT = torch.randn(3, 4), torch.randn(5, 6), torch.randn(4, 6)


class Given(nn.Module):
    """A function as a module."""

    def __init__(self, act: Callable[..., Any]) -> None:
        super().__init__()
        self.act = act

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.act(*tensors))


def parted(act: Callable[..., Any], *given: torch.Tensor, steady: list[bool]) -> Halves:
    program = torch.export.export(Given(act), given, strict=False)
    return halved(program.graph_module, steady)


def results(halves: Halves, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
    kept = []
    if halves.before is not None:
        kept = list(halves.before(*(given[place] for place in halves.before_places)))
    made: tuple[torch.Tensor, ...] = halves.step(
        *(given[place] for place in halves.step_places), *kept
    )
    return made


def attends(sample: torch.Tensor, text: torch.Tensor, weight: torch.Tensor) -> Any:
    """Towards keys, as columns."""
    keys = functional.linear(text, weight).transpose(0, 1)
    return [sample @ keys * 2]


def test_products_of_what_stays_are_done_before() -> None:
    halves = parted(attends, SAMPLE, TEXT, WEIGHT, steady=[False, True, True])
    assert halves.before is not None
    assert (halves.before_places, halves.step_places) == ((1, 2), (0,))
    assert torch.equal(
        results(halves, SAMPLE, TEXT, WEIGHT)[0], attends(SAMPLE, TEXT, WEIGHT)[0]
    )
    # The last of what stays is kept, and not what it was made of.
    assert [tuple(each.shape) for each in halves.before(TEXT, WEIGHT)] == [(4, 5)]


def test_what_is_quickly_done_is_done_again() -> None:
    def act(sample: torch.Tensor, weight: torch.Tensor) -> Any:
        return [sample @ (weight.transpose(0, 1) * 2)]

    halves = parted(act, SAMPLE, torch.randn(5, 4), steady=[False, True])
    assert halves.before is None
    assert halves.step_places == (0, 1)


def test_nothing_that_stays_leaves_the_whole() -> None:
    halves = parted(attends, SAMPLE, TEXT, WEIGHT, steady=[False, False, False])
    assert halves.before is None
    assert torch.equal(
        results(halves, SAMPLE, TEXT, WEIGHT)[0], attends(SAMPLE, TEXT, WEIGHT)[0]
    )


@pytest.mark.parametrize("steady", [[True, True, True], [False, True, True]])
def test_an_output_may_be_what_stays(steady: list[bool]) -> None:
    def act(sample: torch.Tensor, text: torch.Tensor, weight: torch.Tensor) -> Any:
        keys = functional.linear(text, weight)
        return [keys, sample @ keys.T]

    halves = parted(act, SAMPLE, TEXT, WEIGHT, steady=steady)
    for made, wanted in zip(
        results(halves, SAMPLE, TEXT, WEIGHT), act(SAMPLE, TEXT, WEIGHT), strict=True
    ):
        assert torch.equal(made, wanted)


def test_what_comes_of_nothing_stays_as_well() -> None:
    def act(sample: torch.Tensor, text: torch.Tensor) -> Any:
        row = torch.arange(6, dtype=torch.float32)
        keys = functional.linear(text, torch.cat([text, row[None]]))
        return [sample @ keys[:4]]

    halves = parted(act, SAMPLE, TEXT, steady=[False, True])
    assert halves.before_places == (1,)
    assert torch.equal(results(halves, SAMPLE, TEXT)[0], act(SAMPLE, TEXT)[0])


def test_what_comes_of_nothing_is_not_kept_by_itself() -> None:
    def act(sample: torch.Tensor) -> Any:
        row = torch.arange(2, dtype=torch.float32)
        return [sample * torch.cat([row, row])]

    assert parted(act, SAMPLE, steady=[False]).before is None


def test_one_of_which_steps_need_two_ends_is_kept_twice() -> None:
    def act(sample: torch.Tensor, text: torch.Tensor, weight: torch.Tensor) -> Any:
        keys = functional.linear(text, weight)
        return [(sample @ keys.T) @ (keys + 1)]

    halves = parted(act, SAMPLE, TEXT, WEIGHT, steady=[False, True, True])
    assert halves.before is not None
    assert len(halves.before(TEXT, WEIGHT)) == 2
    assert torch.equal(results(halves, SAMPLE, TEXT, WEIGHT)[0], act(SAMPLE, TEXT, WEIGHT)[0])
