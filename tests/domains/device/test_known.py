"""Ids over restarts: whoever had one has it again, and nobody else gets it meanwhile."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from domains.device.core import DeviceInventory
from domains.device.core.facts import TransientFacts, warn_of_damage
from domains.device.errors import DeviceUnavailable
from domains.device.types import Adapter, DeviceKind, DeviceState
from domains.errors import Reason, ResourceExhausted
from tests.clocks import SteeredTime
from tests.fakes.device import FakeProbe, FakeWorkers, card

RX, ARC = card(0, DeviceKind.DIRECT_ML), card(1, DeviceKind.DIRECT_ML)


class Machine:
    """A server that is started again and again, over the same facts."""

    def __init__(self) -> None:
        self.facts = TransientFacts()
        self.clock = SteeredTime()
        self.workers = FakeWorkers()

    async def start(self, *adapters: Adapter) -> DeviceInventory:
        inventory = DeviceInventory(
            FakeProbe(*adapters), self.workers, facts=self.facts, now=self.clock.clock.wall
        )
        await inventory.discover()
        return inventory

    async def ids(self, *adapters: Adapter) -> dict[str, str]:
        """Ids by what torch calls each device, of those that are there."""
        devices = (await self.start(*adapters)).devices
        return {d.torch_device: d.device_id for d in devices if not d.lost}


@pytest.fixture
def machine() -> Machine:
    return Machine()


async def test_ids_survive_a_restart_with_the_cards_the_other_way_round(
    machine: Machine,
) -> None:
    a, b = card(0, hardware_id="GPU-a"), card(1, hardware_id="GPU-b")
    assert await machine.ids(a, b) == {"cpu": "cpu:0", "cuda:0": "cuda:0", "cuda:1": "cuda:1"}

    swapped = await machine.ids(
        replace(b, torch_device="cuda:0"), replace(a, torch_device="cuda:1")
    )

    assert swapped == {"cpu": "cpu:0", "cuda:0": "cuda:1", "cuda:1": "cuda:0"}


async def test_a_driver_that_tells_names_only_may_reorder_them(machine: Machine) -> None:
    """DirectML gives neither identity nor slot."""
    await machine.ids(RX, ARC)

    swapped = await machine.ids(
        replace(ARC, torch_device="privateuseone:0"),
        replace(RX, torch_device="privateuseone:1"),
    )

    assert swapped["privateuseone:0"] == "directml:1"
    assert swapped["privateuseone:1"] == "directml:0"


async def test_twins_are_counted_and_one_missing_leaves_the_other_its_id(
    machine: Machine,
) -> None:
    first, second = card(0, hardware_id="GPU-a"), card(1, hardware_id="GPU-a")
    assert (await machine.ids(first, second))["cuda:1"] == "cuda:1"
    other = card(0, slot="0000:01:00", hardware_id="GPU-0")

    moved = await machine.ids(
        other, replace(first, torch_device="cuda:1"), replace(second, torch_device="cuda:2")
    )

    assert moved == {"cpu": "cpu:0", "cuda:1": "cuda:0", "cuda:2": "cuda:1", "cuda:0": "cuda:2"}
    assert (await machine.ids(first))["cuda:0"] == "cuda:0"


async def test_the_processor_is_itself_whatever_its_name(machine: Machine) -> None:
    await machine.start()
    probe = FakeProbe()
    probe.processor = lambda: replace(FakeProbe().processor(), name="Another")  # type: ignore[method-assign]
    inventory = DeviceInventory(probe, machine.workers, facts=machine.facts)
    await inventory.discover()

    assert [d.device_id for d in inventory.devices] == ["cpu:0"]


async def test_a_card_that_is_gone_after_a_restart_is_lost_and_says_why(
    machine: Machine,
) -> None:
    await machine.start(card(0, hardware_id="GPU-a"))
    machine.workers.set("cuda:0", DeviceState.UNAVAILABLE)

    inventory = await machine.start()
    listing = await inventory.list()

    lost = listing.devices[1]
    assert (lost.device.device_id, lost.state) == ("cuda:0", DeviceState.LOST)
    assert lost.explanation.endswith("not there any more: torch was built without it")
    assert listing.default_device_id == "cpu:0"
    with pytest.raises(DeviceUnavailable, match="built without it"):
        await inventory.resolve("cuda:0")


async def test_the_best_one_is_one_that_is_there(machine: Machine) -> None:
    await machine.start(card(0, hardware_id="GPU-a"))
    machine.workers.set("cuda:0", DeviceState.UNAVAILABLE)

    inventory = await machine.start(card(0, hardware_id="GPU-b"))

    assert (await inventory.resolve("gpu")).device_id == "cuda:1"
    assert (await inventory.resolve("cuda")).device_id == "cuda:1"
    assert (await inventory.list()).default_device_id == "cuda:1"


async def test_an_id_is_free_again_after_thirty_days_of_absence(machine: Machine) -> None:
    await machine.start(card(0, hardware_id="GPU-a"))
    machine.clock.move(20 * 86400)
    assert (await machine.ids(card(0, hardware_id="GPU-b")))["cuda:0"] == "cuda:1"
    machine.clock.move(11 * 86400)

    inventory = await machine.start(card(0, hardware_id="GPU-c"))

    assert {d.hardware_id: d.device_id for d in inventory.devices if d.hardware_id} == {
        "GPU-c": "cuda:0",
        "GPU-b": "cuda:1",
    }


async def test_being_there_counts_as_seen(machine: Machine) -> None:
    for _ in range(3):
        await machine.start(card(0, hardware_id="GPU-a"), card(1, hardware_id="GPU-b"))
        machine.clock.move(20 * 86400)

    assert (await machine.ids(card(0, hardware_id="GPU-b")))["cuda:0"] == "cuda:1"


@pytest.mark.parametrize(
    "torn",
    [
        b"{}",
        b'{"schema": 1, "devices": 7}',
        b'{"schema": 1, "devices": [7, {}, {"device_id": "cuda:0"}]}',
        b'{"schema": 9, "devices": []}',
    ],
)
async def test_torn_records_are_left_out(machine: Machine, torn: bytes) -> None:
    machine.facts.put("device.known", torn)

    assert await machine.ids(card(0)) == {"cpu": "cpu:0", "cuda:0": "cuda:0"}


async def test_one_wrong_entry_does_not_cost_the_others(machine: Machine) -> None:
    await machine.start(card(0, hardware_id="GPU-a"), card(1, hardware_id="GPU-b"))
    kept = machine.facts.get("device.known")
    assert kept is not None
    machine.facts.put(
        "device.known", kept.replace(b'"cuda:0", "identity"', b'"xpu:0", "identity"')
    )

    assert (await machine.ids(card(0, hardware_id="GPU-b")))["cuda:0"] == "cuda:1"


class FullDisk(TransientFacts):
    """Takes everything in memory, and says that the disk does not."""

    def put(self, key: str, value: bytes) -> None:
        super().put(key, value)
        raise ResourceExhausted("full", reason=Reason.DISK_FULL)


async def test_devices_are_known_where_the_disk_takes_nothing(machine: Machine) -> None:
    machine.facts = FullDisk()
    inventory = await machine.start(card(0))
    listed = await inventory.list()
    assert [report.device.device_id for report in listed.devices] == ["cuda:0", "cpu:0"]
    assert (await inventory.resolve("cuda:0")).device_id == "cuda:0"
    assert (await machine.ids(card(1)))["cuda:1"] == "cuda:1"  # still the second


async def test_a_choice_that_the_disk_does_not_take_is_said_and_holds(machine: Machine) -> None:
    machine.facts = FullDisk()
    inventory = await machine.start(card(0))
    with pytest.raises(ResourceExhausted):
        await inventory.set_default("cpu")
    assert (await inventory.default()).device_id == "cpu:0"


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x93\x01", b"x" * 1000])
async def test_what_cannot_be_read_is_logged_once_and_left_out(
    machine: Machine, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_damage.cache_clear()
    machine.facts.put("device.known", content)
    machine.facts.put("device.default", content)
    inventory = await machine.start(card(0))
    for _ in range(3):
        await inventory.list()
    assert [report.device.device_id for report in inventory.reports()] == ["cuda:0", "cpu:0"]
    warnings = [line for line in caplog.messages if "is left out" in line]
    assert len(warnings) == len(set(warnings)) == 2
