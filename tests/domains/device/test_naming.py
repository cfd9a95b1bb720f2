"""Ids and aliases: stable, in order of slot, and never of two devices."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from domains.device.core.naming import kinds_meant, name_devices
from domains.device.types import DeviceKind
from tests.fakes.device import PROCESSOR, card


def test_numbers_follow_slots_and_not_the_order_of_torch() -> None:
    late, early = card(0, slot="0000:3b:00"), card(1, slot="0000:1a:00")

    first, second = name_devices([late, early], ())

    assert (first.device_id, first.torch_device) == ("cuda:0", "cuda:1")
    assert (second.device_id, second.torch_device) == ("cuda:1", "cuda:0")
    assert "cuda:0" not in second.aliases


def test_without_slots_the_tenth_card_comes_after_the_second() -> None:
    named = name_devices([card(index) for index in (10, 2, 0)], ())

    assert [device.torch_device for device in named] == ["cuda:0", "cuda:2", "cuda:10"]


def test_a_new_card_in_an_earlier_slot_renames_nobody() -> None:
    old = card(0, slot="0000:3b:00", hardware_id="GPU-old")
    before = name_devices([old], ())
    new = card(0, slot="0000:1a:00", hardware_id="GPU-new")

    after = name_devices([new, replace(old, torch_device="cuda:1")], before)

    assert {device.hardware_id: device.device_id for device in after} == {
        "GPU-old": "cuda:0",
        "GPU-new": "cuda:1",
    }


def test_a_card_that_is_gone_stays_as_lost_and_its_number_is_not_reused() -> None:
    before = name_devices([card(0, hardware_id="GPU-a")], ())

    after = name_devices([card(0, hardware_id="GPU-b")], before)

    assert [(d.device_id, d.lost) for d in after] == [("cuda:0", True), ("cuda:1", False)]
    assert "not there any more" in after[0].explanation


def test_a_card_that_comes_back_is_itself_again() -> None:
    there = name_devices([card(0, hardware_id="GPU-a")], ())
    gone = name_devices([], there)
    back = name_devices([card(0, hardware_id="GPU-a")], gone)

    assert back == there


def test_parts_of_one_split_card_are_different_devices() -> None:
    halves = [card(0, hardware_id="GPU-a"), card(1, hardware_id="GPU-a")]

    first = name_devices(halves, ())

    assert [device.device_id for device in first] == ["cuda:0", "cuda:1"]
    assert name_devices(halves, first) == first


def test_kinds_come_best_first() -> None:
    adapters = [PROCESSOR, card(0, DeviceKind.DIRECT_ML), card(0, DeviceKind.XPU), card(0)]

    named = name_devices(adapters, ())

    assert [device.device_id for device in named] == ["cuda:0", "xpu:0", "directml:0", "cpu:0"]


def test_gpu_is_the_best_accelerator_and_counts_over_kinds() -> None:
    named = name_devices([PROCESSOR, card(0, DeviceKind.DIRECT_ML), card(0)], ())
    aliases = {device.device_id: device.aliases for device in named}

    assert {"gpu", "gpu:0", "cuda"} <= set(aliases["cuda:0"])
    assert {"gpu:1", "dml", "dml:0", "privateuseone", "privateuseone:0"} <= set(
        aliases["directml:0"]
    )
    assert aliases["cpu:0"] == ("cpu",)


def test_rocm_answers_to_torchs_word_where_no_cuda_device_does() -> None:
    alone = name_devices([card(0, DeviceKind.ROCM)], ())
    beside = name_devices([card(0, DeviceKind.ROCM), card(0)], ())

    assert {"cuda", "cuda:0", "hip"} <= set(alone[0].aliases)
    assert not {"cuda", "cuda:0"} & set(beside[1].aliases)


def test_no_name_means_two_devices() -> None:
    kinds = (DeviceKind.ROCM, DeviceKind.DIRECT_ML, DeviceKind.XPU, DeviceKind.CUDA)
    adapters = [PROCESSOR, *(card(i, kind) for kind in kinds for i in range(3))]

    names = [name for d in name_devices(adapters, ()) for name in (d.device_id, *d.aliases)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("cuda:7", {DeviceKind.CUDA, DeviceKind.ROCM}),
        ("dml", {DeviceKind.DIRECT_ML}),
        ("metal", {DeviceKind.MPS}),
        ("gpu", set(DeviceKind) - {DeviceKind.CPU}),
        ("toaster", set()),
    ],
)
def test_a_name_tells_which_kinds_it_speaks_of(name: str, kinds: set[DeviceKind]) -> None:
    assert set(kinds_meant(name)) == kinds


def test_devices_of_other_machines_are_numbered_there_and_leave_names_to_this_one() -> None:
    there = [replace(each, node="node-a") for each in (PROCESSOR, card(0))]

    named = name_devices([*there, PROCESSOR, replace(PROCESSOR, node="node-b")], ())

    assert [device.device_id for device in named] == [
        "ray:node-a:cuda:0",
        "cpu:0",
        "ray:node-a:cpu:0",
        "ray:node-b:cpu:0",
    ]
    assert [bool(device.aliases) for device in named] == [False, True, False, False]
    assert "gpu" not in {alias for device in named for alias in device.aliases}


def test_a_machine_that_was_not_seen_keeps_its_ids_and_says_why() -> None:
    before = name_devices([PROCESSOR, replace(card(0), node="node-a")], ())

    after = name_devices([PROCESSOR], before, {DeviceKind.CUDA: "no driver"}, "no cluster")

    lost = next(device for device in after if device.lost)
    assert lost.device_id == "ray:node-a:cuda:0"
    assert "no cluster" in lost.explanation
    assert "no driver" not in lost.explanation


def test_memory_of_another_machine_is_not_this_ones() -> None:
    here, there = name_devices([PROCESSOR, replace(PROCESSOR, node="node-a")], ())

    assert (here.traits.in_main_memory, here.traits.can_vanish) == (True, False)
    assert (there.traits.in_main_memory, there.traits.can_vanish) == (False, True)
    assert here.traits.full_numbers
    assert there.traits.full_numbers
