"""The pool of examples made ahead."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from demo.train.parts import pool
from demo.train.parts.base import load_base
from demo.train.parts.latents import encode
from demo.train.parts.text import tokens


@dataclass(frozen=True)
class Pair:
    number: Tensor
    square: Tensor


def numbered() -> pool.ExamplePool[Pair]:
    """A pool of four examples that are numbered as they are made."""
    numbers = count()

    def make(wanted: int) -> Pair:
        number = torch.tensor([float(next(numbers)) for _ in range(wanted)])
        return Pair(number, number.square()[:, None])

    return pool.ExamplePool(make, 4, torch.Generator().manual_seed(1))


def test_what_belongs_together_stays_together():
    drawn = numbered().take(200)
    assert set(drawn.number.tolist()) == {0, 1, 2, 3}
    assert torch.equal(drawn.square[:, 0], drawn.number.square())


def test_the_oldest_are_replaced():
    examples = numbered()
    examples.renew(3)
    assert set(examples.take(200).number.tolist()) == {3, 4, 5, 6}
    examples.renew(2)
    assert set(examples.take(200).number.tolist()) == {5, 6, 7, 8}


def test_never_more_are_made_than_are_kept():
    examples = numbered()
    examples.renew(9)
    assert len(examples) == 4
    assert set(examples.take(200).number.tolist()) == {4, 5, 6, 7}


def test_a_large_pool_is_made_in_parts():
    asked = []

    def make(wanted: int) -> Pair:
        asked.append(wanted)
        return Pair(torch.zeros(wanted), torch.zeros(wanted))

    examples = pool.ExamplePool(make, 300, torch.Generator())
    assert asked == [pool.MADE_AT_ONCE] * 3
    assert len(examples) == 3 * pool.MADE_AT_ONCE


def test_examples_are_made_in_full_precision_and_without_gradients():
    weight = torch.ones(8, 8, requires_grad=True)

    def make(wanted: int) -> Pair:
        result = torch.ones(wanted, 8) @ weight
        return Pair(result, result)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        drawn = pool.ExamplePool(make, 2, torch.Generator()).take(2)
    assert drawn.number.dtype is torch.float32
    assert not drawn.number.requires_grad


def test_pictures_are_kept_as_latents_and_prompts_as_tokens():
    base = load_base(device="cpu")
    pixels = torch.zeros(1, 3, 64, 64)
    made = pool.encoded(base, lambda wanted: (pixels, ["a robot"] * wanted))(1)
    assert torch.equal(made.latents, encode(base.vae, pixels))
    assert torch.equal(made.tokens, tokens(base.tokenizer, ["a robot"]))
