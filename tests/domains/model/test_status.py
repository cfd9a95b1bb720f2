"""One model everywhere is one moment's view, whatever happens while it is put together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from domains.device.types import Device, DeviceKind, LoadedComponent
from domains.memory.types import Extent, HeldComponent, Place
from domains.model.core.estimates import Estimates
from domains.model.core.status import ModelStatuses
from domains.model.ports import Machine
from domains.model.types import Component
from domains.session.core.speeds import Speeds
from domains.values import ByteFigure, FigureQuality
from tests.fakes.model import FakeScanner, catalogue_of, model

GIB = 1 << 30
INK = model(
    "ink", components=(Component("unet", "UNet2DConditionModel", parameter_count=GIB // 2),)
)
CARDS = ("cuda:0", "cuda:1", "cuda:2")


class Moving:
    """A machine of which a card comes and goes, and on whose cards `ink` lies or, in use, a
    model that leaves it no room."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.present = {*CARDS}
        self.holds = dict.fromkeys(CARDS, "")
        self.changes_left = 0
        self.why = ""  # a look from outside finds them unfit
        self.ready: set[str] = set()  # and their workers work all the same

    def change(self) -> None:
        card = self.random.choice(CARDS)
        self.present.symmetric_difference_update({self.random.choice(CARDS)})
        self.holds[card] = self.random.choice(("", "ink", "other"))

    def free(self, card: str) -> int:
        return 0 if self.holds[card] == "other" else 8 * GIB

    @property
    def devices(self) -> Sequence[Device]:
        unknown = ByteFigure.unknown("a fake")
        return [
            Device(card, DeviceKind.CUDA, card, "", card, unknown, explanation=self.why)
            for card in CARDS
            if card in self.present
        ]

    def works(self, device: Device) -> bool:
        return not self.why or device.device_id in self.ready

    def held(self) -> tuple[HeldComponent, ...]:
        now, size = datetime.now(UTC), ByteFigure.measured(GIB, "a fake")
        return tuple(
            HeldComponent(card, LoadedComponent(name, "unet", size, None, now, name == "other"))
            for card, name in self.holds.items()
            if name and card in self.present
        )

    def idle(self, device_id: str) -> Sequence[Any]:
        return ()

    async def extent(self, place: Place) -> Extent:
        """What was free when somebody asked; the answer takes a while."""
        free = self.free(place.device_id)
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
            if self.changes_left and self.random.random() < 0.3:
                self.changes_left -= 1
                self.change()
        return Extent(8 * GIB, free)


class NobodyUses:
    def running(self, model_id: str, device_id: str = "") -> list[Any]:
        return []


class NothingCached:
    def find(self, model_id: str) -> None:
        return None


def statuses_of(moving: Moving) -> ModelStatuses:
    return ModelStatuses(
        catalogue_of(FakeScanner(INK), clock=lambda: datetime.now(UTC)),
        cast("Any", NothingCached()),
        lambda: Machine(cast("Any", moving), moving, moving),
        cast("Any", NobodyUses()),
        Estimates(Speeds()),
    )


@pytest.mark.parametrize("seed", range(8))
async def test_a_view_is_of_one_moment(seed: int) -> None:
    moving = Moving(seed)
    statuses = statuses_of(moving)
    for _ in range(50):
        moving.changes_left = 3  # fewer than it measures again for
        told = await statuses.status("ink")
        # Nothing happened since it was told: nobody else had a turn.
        with_ink = [c for c in CARDS if moving.holds[c] == "ink" and c in moving.present]

        assert [one.device_id for one in told.loaded] == with_ink
        assert [one.device_id for one in told.estimates] == [
            card for card in CARDS if card in moving.present
        ]
        for estimate in told.estimates:
            lies_there = estimate.device_id in with_ink
            measured = estimate.weights.quality is FigureQuality.MEASURED
            assert measured is lies_there
            assert estimate.fits is (moving.free(estimate.device_id) > 0)


async def test_a_machine_that_never_rests_is_told_all_the_same() -> None:
    moving = Moving(1)
    statuses = statuses_of(moving)
    moving.changes_left = 1_000_000

    for _ in range(50):
        told = await statuses.status("ink")
        assert (
            {one.device_id for one in told.loaded}
            <= {one.device_id for one in told.estimates}
            == moving.present
        )


async def test_a_card_that_works_is_estimated_whatever_a_look_from_outside_finds() -> None:
    moving = Moving(1)
    moving.why, moving.ready = "a first computation failed: out of memory", {"cuda:1"}

    told = await statuses_of(moving).status("ink")

    assert [one.device_id for one in told.estimates] == ["cuda:1"]
