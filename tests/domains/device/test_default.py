"""The default device: chosen by a client or in the settings, the later word counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from domains.device.core import DeviceInventory
from domains.device.core.facts import TransientFacts
from domains.device.errors import DeviceNotFound, DeviceUnavailable
from domains.device.types import DeviceState
from domains.errors import InvalidArgument, Reason, Unavailable
from tests.domains.device.conftest import Domain
from tests.fakes.device import FakeProbe, FakeWorkers, card, unusable


async def default_of(inventory: DeviceInventory) -> str:
    return (await inventory.list()).default_device_id


async def test_a_chosen_default_wins_over_the_best_device_and_survives_a_restart(
    domain: Domain,
) -> None:
    inventory = domain.service.inventory
    assert await default_of(inventory) == "cuda:0"

    report = await inventory.set_default("CPU")

    assert (report.device.device_id, report.is_default) == ("cpu:0", True)
    assert await default_of(inventory) == "cpu:0"
    assert (await inventory.resolve("")).device_id == "cpu:0"
    assert await default_of(domain.build().inventory) == "cpu:0"


async def test_a_choice_wins_over_the_setting_until_the_setting_changes(
    domain: Domain,
) -> None:
    domain.configured = "cuda:0"
    await domain.build().inventory.set_default("cpu")
    assert await default_of(domain.build().inventory) == "cpu:0"

    domain.configured = "gpu"

    assert await default_of(domain.build().inventory) == "cuda:0"


async def test_a_chosen_default_that_is_gone_is_never_replaced(domain: Domain) -> None:
    await domain.service.inventory.set_default("cuda:0")
    domain.probe.adapters = []
    domain.workers.set("cuda:0", DeviceState.UNAVAILABLE)

    inventory = domain.build().inventory

    assert await default_of(inventory) == "cuda:0"
    with pytest.raises(DeviceUnavailable, match="not there any more"):
        await inventory.resolve("")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (DeviceState.UNAVAILABLE, Reason.DEVICE_UNAVAILABLE),
        (DeviceState.QUARANTINED, Reason.DEVICE_QUARANTINED),
    ],
)
async def test_a_device_out_of_use_is_refused_and_the_default_stays(
    make_domain: Callable[..., Domain], state: DeviceState, reason: Reason
) -> None:
    domain = make_domain(probe=FakeProbe(unusable(card(0), "no driver")))
    domain.workers.set("cuda:0", state, "it died of its driver")

    with pytest.raises(Unavailable, match="driver") as caught:
        await domain.service.inventory.set_default("cuda:0")

    assert caught.value.reason is reason
    assert await default_of(domain.service.inventory) == "cpu:0"


async def test_a_missing_or_unnamed_device_is_no_default(domain: Domain) -> None:
    with pytest.raises(DeviceNotFound):
        await domain.service.inventory.set_default("xpu:3")
    with pytest.raises(InvalidArgument) as caught:
        await domain.service.inventory.set_default("")

    assert [v.field for v in caught.value.violations] == ["device_id"]


@pytest.mark.parametrize(
    "torn",
    [b"", b"\xff", b"[]", b'{"schema": 2, "device_id": "cpu:0"}', b'{"schema": 1}',
     b'{"schema": 1, "configured": "", "device_id": 7}'],
)  # fmt: skip
async def test_a_torn_record_counts_as_none(torn: bytes) -> None:
    facts = TransientFacts()
    facts.put("device.default", torn)
    inventory = DeviceInventory(FakeProbe(card(0)), FakeWorkers(), facts=facts)

    assert await default_of(inventory) == "cuda:0"
