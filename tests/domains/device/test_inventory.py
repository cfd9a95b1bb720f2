"""The inventory: what is found when, which device is the default, why one is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from domains.device.core import DeviceInventory
from domains.device.core.machines import AllMachines
from domains.device.errors import DeviceNotFound, DeviceUnavailable, DiscoveryIncomplete
from domains.device.types import Adapter, Device, DeviceKind, DeviceState
from domains.errors import Reason
from tests.fakes.device import PROCESSOR, FakeProbe, FakeWorkers, card, unusable


async def test_the_processor_is_known_before_anything_is_looked_for() -> None:
    probe = FakeProbe(card(0))
    inventory = DeviceInventory(probe, FakeWorkers())

    assert [device.device_id for device in inventory.devices] == ["cpu:0"]
    assert probe.looks == 0


async def test_the_first_list_waits_for_the_discovery_under_way() -> None:
    probe = FakeProbe(card(0), held=True)
    inventory = DeviceInventory(probe, FakeWorkers())
    discovery = asyncio.create_task(inventory.discover())
    listing = asyncio.create_task(inventory.list())
    await probe.started.wait()
    assert not listing.done()
    probe.release.set()

    devices = (await listing).devices
    await discovery

    assert [report.device.device_id for report in devices] == ["cuda:0", "cpu:0"]
    assert probe.looks == 1


async def test_a_list_that_ran_out_of_patience_says_that_it_is_incomplete() -> None:
    probe = FakeProbe(card(0), held=True)
    inventory = DeviceInventory(probe, FakeWorkers(), patience=0.01)

    listing = await inventory.list()

    assert [report.device.device_id for report in listing.devices] == ["cpu:0"]
    assert {outcome.kind for outcome in listing.probes} == set(DeviceKind) - {DeviceKind.CPU}
    assert all("still being looked for" in outcome.explanation for outcome in listing.probes)
    assert listing.default_device_id == ""
    probe.release.set()
    assert len((await inventory.list()).devices) == 2
    assert probe.looks == 1


@pytest.mark.parametrize("name", ["", "cuda:0", "gpu"])
async def test_while_devices_are_looked_for_the_processor_stands_in_for_none(
    name: str,
) -> None:
    probe = FakeProbe(card(0), held=True)
    inventory = DeviceInventory(probe, FakeWorkers(), patience=0.01)

    for ask in (inventory.get, inventory.resolve):
        with pytest.raises(DiscoveryIncomplete) as caught:
            await ask(name)
        assert caught.value.retry_after
    assert (await inventory.resolve("cpu")).device_id == "cpu:0"

    probe.release.set()
    assert (await inventory.resolve(name)).device_id == "cuda:0"


async def test_a_device_known_by_name_needs_no_discovery() -> None:
    probe = FakeProbe(card(0))
    inventory = DeviceInventory(probe, FakeWorkers(), default_device="cpu")

    assert (await inventory.default()).device_id == "cpu:0"
    assert (await inventory.resolve("CPU:0")).device_id == "cpu:0"
    assert probe.looks == 0


async def test_a_caller_that_gives_up_does_not_end_the_discovery_of_others() -> None:
    probe = FakeProbe(card(0), held=True)
    inventory = DeviceInventory(probe, FakeWorkers())
    impatient = asyncio.create_task(inventory.list())
    patient = asyncio.create_task(inventory.list())
    await probe.started.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    probe.release.set()

    assert len((await patient).devices) == 2


async def test_devices_are_known_though_no_worker_can_be_started() -> None:
    class Failing(FakeWorkers):
        async def start(self, devices: Sequence[Device]) -> None:
            raise PermissionError("no folder for workers")

    workers, probe = Failing(), FakeProbe(card(0))
    for device_id in ("cuda:0", "cpu:0"):
        workers.set(device_id, DeviceState.UNAVAILABLE, "The device has no worker.")
    inventory = DeviceInventory(probe, workers)

    report = await inventory.get("cuda:0")
    listing = await inventory.list()

    assert (report.state, report.explanation) == (
        DeviceState.UNAVAILABLE,
        "The device has no worker.",
    )
    assert [one.device.device_id for one in listing.devices] == ["cuda:0", "cpu:0"]
    assert probe.looks == 1
    with pytest.raises(PermissionError):  # whoever keeps looking hears of it, and logs it
        await inventory.discover()


async def test_close_ends_a_discovery_under_way() -> None:
    probe = FakeProbe(held=True)
    inventory = DeviceInventory(probe, FakeWorkers())
    discovery = asyncio.create_task(inventory.discover())
    await probe.started.wait()

    await inventory.close()

    with pytest.raises(asyncio.CancelledError):
        await discovery
    await inventory.close()


async def test_a_refresh_finds_what_was_added_and_reports_what_is_gone() -> None:
    probe = FakeProbe(card(0, hardware_id="a"))
    workers = FakeWorkers()
    inventory = DeviceInventory(probe, workers)
    await inventory.list()
    probe.adapters = [card(0, hardware_id="b")]
    workers.set("cuda:0", DeviceState.UNAVAILABLE, "it has no worker")

    unchanged = await inventory.list()
    refreshed = await inventory.list(refresh=True)

    assert [r.device.device_id for r in unchanged.devices] == ["cuda:0", "cpu:0"]
    assert {r.device.device_id: r.state for r in refreshed.devices} == {
        "cuda:1": DeviceState.READY,
        "cuda:0": DeviceState.LOST,
        "cpu:0": DeviceState.READY,
    }
    with pytest.raises(DeviceUnavailable, match="not there any more"):
        await inventory.resolve("cuda:0")


async def test_every_usable_device_that_is_found_gets_a_worker() -> None:
    probe = FakeProbe(card(0), unusable(card(1), "no driver"))
    workers = FakeWorkers()
    inventory = DeviceInventory(probe, workers)
    await inventory.discover()
    assert workers.started == ["cuda:0", "cpu:0"]

    probe.adapters = [card(0), card(1)]
    await inventory.list(refresh=True)

    assert workers.started == ["cuda:0", "cpu:0", "cuda:1"]


async def test_a_device_with_a_living_worker_is_not_called_lost() -> None:
    probe = FakeProbe(card(0))
    inventory = DeviceInventory(probe, FakeWorkers())
    await inventory.list()
    probe.adapters = []
    await inventory.discover()

    assert (await inventory.get("cuda:0")).state is DeviceState.READY
    assert (await inventory.resolve("cuda:0")).device_id == "cuda:0"


async def test_only_kinds_without_a_device_are_explained() -> None:
    inventory = DeviceInventory(FakeProbe(card(0)), FakeWorkers())

    everything = await inventory.list()
    only = await inventory.list(DeviceKind.XPU)

    assert DeviceKind.CUDA not in {outcome.kind for outcome in everything.probes}
    assert only.devices == ()
    assert [(p.kind, p.explanation) for p in only.probes] == [
        (DeviceKind.XPU, "torch was built without it")
    ]
    assert only.default_device_id == "cuda:0"


async def test_the_default_is_the_best_device_that_works_and_comes_first() -> None:
    broken = unusable(card(0), "a first computation failed")
    workers = FakeWorkers()
    workers.set("cuda:0", DeviceState.UNAVAILABLE, "The device has no worker.")
    inventory = DeviceInventory(FakeProbe(broken, card(0, DeviceKind.XPU)), workers)

    listing = await inventory.list()

    assert listing.default_device_id == "xpu:0"
    assert [r.device.device_id for r in listing.devices] == ["xpu:0", "cuda:0", "cpu:0"]
    assert [r.is_default for r in listing.devices] == [True, False, False]
    assert (await inventory.default()).device_id == "xpu:0"
    assert (await inventory.resolve("")).device_id == "xpu:0"


@pytest.mark.parametrize(
    "seen", [[unusable(card(0), "a first computation failed: CUDA error: out of memory")], []]
)
async def test_a_card_that_works_stays_the_default_whatever_a_look_from_outside_finds(
    seen: list[Adapter],
) -> None:
    """Its own worker may have filled it, or a probe have taken too long."""
    probe, workers = FakeProbe(card(0)), FakeWorkers()
    inventory = DeviceInventory(probe, workers)
    await inventory.discover()
    probe.adapters = seen

    await inventory.discover()

    assert (await inventory.default()).device_id == "cuda:0"
    workers.set("cuda:0", DeviceState.UNAVAILABLE)
    assert (await inventory.default()).device_id == "cpu:0"


async def test_a_device_found_unusable_says_why_and_is_not_resolved() -> None:
    broken = unusable(card(0), "no kernel image is available")
    workers = FakeWorkers()
    workers.set("cuda:0", DeviceState.UNAVAILABLE)
    inventory = DeviceInventory(FakeProbe(broken), workers)

    report = await inventory.get("cuda:0")

    assert report.state is DeviceState.UNAVAILABLE
    assert report.explanation == "no kernel image is available"
    with pytest.raises(DeviceUnavailable, match="no kernel image") as caught:
        await inventory.resolve("cuda:0")
    assert caught.value.reason is Reason.DEVICE_UNAVAILABLE


@pytest.mark.parametrize("name", ["cpu", "CPU:0", "cpu:0"])
async def test_a_configured_default_goes_by_any_of_its_names(name: str) -> None:
    inventory = DeviceInventory(FakeProbe(card(0)), FakeWorkers(), default_device=name)

    assert (await inventory.default()).device_id == "cpu:0"


async def test_a_configured_default_that_is_missing_is_never_replaced() -> None:
    inventory = DeviceInventory(FakeProbe(), FakeWorkers(), default_device="cuda:0")

    assert (await inventory.list()).default_device_id == ""
    with pytest.raises(DeviceNotFound, match=r"without it.*use it by default"):
        await inventory.resolve("")


async def test_a_missing_device_is_explained_by_the_probe_of_its_kind() -> None:
    inventory = DeviceInventory(
        FakeProbe(why="torch 9.9 was built without this"), FakeWorkers()
    )

    with pytest.raises(DeviceNotFound, match=r"dml.*directml: torch 9\.9 was built") as caught:
        await inventory.get("dml")

    assert caught.value.reason is Reason.DEVICE_NOT_FOUND
    assert caught.value.metadata == {"device_id": "dml"}
    assert "xpu" not in caught.value.message


async def test_a_number_too_high_and_an_unknown_word_tell_what_there_is() -> None:
    inventory = DeviceInventory(FakeProbe(card(0)), FakeWorkers())

    with pytest.raises(DeviceNotFound, match="this machine has cuda:0, cpu:0"):
        await inventory.get("cuda:1")
    with pytest.raises(DeviceNotFound, match="this machine has cuda:0, cpu:0"):
        await inventory.get("toaster")


async def test_a_hostile_name_is_shown_shortened_and_escaped() -> None:
    inventory = DeviceInventory(FakeProbe(), FakeWorkers())

    with pytest.raises(DeviceNotFound) as caught:
        await inventory.get("evil\n\u202e" + "x" * 10_000)

    assert "\n" not in caught.value.message
    assert "\u202e" not in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.metadata["device_id"].isascii()


class OneMachine:
    """Another machine with a card, until it cannot be seen."""

    def __init__(self) -> None:
        self.unseen = ""

    async def look(self) -> tuple[tuple[Adapter, ...], str]:
        """See the port."""
        seen = () if self.unseen else (replace(card(0), node="node-a"),)
        return seen, self.unseen


async def test_another_machines_device_is_listed_and_used_when_it_is_named() -> None:
    """It is not the default, however much better it is than this machine's processor."""
    workers, other = FakeWorkers(), OneMachine()
    inventory = DeviceInventory(AllMachines(FakeProbe(), other), workers)
    listing = await inventory.list()

    assert listing.default_device_id == "cpu:0"
    assert workers.started == ["ray:node-a:cuda:0", "cpu:0"]
    assert (await inventory.resolve("RAY:node-a:cuda:0")).node == "node-a"

    workers.set(
        "ray:node-a:cuda:0", DeviceState.LOST, "There is no node node-a in the cluster."
    )
    with pytest.raises(DeviceUnavailable, match="no node node-a"):
        await inventory.resolve("ray:node-a:cuda:0")


async def test_whoever_asks_for_a_machine_that_cannot_be_seen_is_told_why() -> None:
    other = OneMachine()
    other.unseen = "No Ray cluster listens at head:1"
    inventory = DeviceInventory(AllMachines(FakeProbe(), other), FakeWorkers())
    await inventory.discover()

    with pytest.raises(DeviceNotFound, match="No Ray cluster listens at head:1"):
        await inventory.get("ray:node-a:cpu:0")
    assert (await inventory.get("cpu")).device.name == PROCESSOR.name
