"""Where work shall run, and where it runs and why, between words and the contract."""

from __future__ import annotations

from collections.abc import Sequence

from deviceops.v1 import device_info_pb2
from server.cli.choices import choose
from server.cli.wording import duration, enum_word, printable, seconds_of

_WHY = {
    device_info_pb2.PLACEMENT_REASON_NAMED: "as asked",
    device_info_pb2.PLACEMENT_REASON_ONLY_ONE: "no other one is ready",
    device_info_pb2.PLACEMENT_REASON_MODEL_LOADED: "the model is loaded there",
    device_info_pb2.PLACEMENT_REASON_SHORTEST_WAIT: "its queue ends first",
    device_info_pb2.PLACEMENT_REASON_FASTER: "it was measured to be faster",
    device_info_pb2.PLACEMENT_REASON_DEFAULT: "the default device",
}


def placement(devices: Sequence[str], kinds: str) -> device_info_pb2.DevicePlacement | None:
    """What the options `--device` and `--any-of` ask for; None leaves it to the server.

    Args:
        devices: Ids or aliases. One names the device, several are a choice.
        kinds: Kinds of devices to choose from, separated by commas or blanks.

    Raises:
        UnusableOptions: There is no such kind.
    """
    words = kinds.replace(",", " ").split()
    if len(devices) == 1 and not words:
        return device_info_pb2.DevicePlacement(device_id=devices[0])
    if not devices and not words:
        return None
    choice = device_info_pb2.DeviceChoice(
        device_ids=devices,
        kinds=[choose(device_info_pb2.DeviceKind, "DEVICE_KIND_", word) for word in words],
    )
    return device_info_pb2.DevicePlacement(any=choice)


def placed(decision: device_info_pb2.PlacementDecision) -> str:
    """Where, why there, how long it may take: `cuda:0 (its queue ends first, about 12.0 s)`.

    Empty while undecided.
    """
    device = printable(decision.device_id)
    if not device or not decision.reason:
        return device
    why = _WHY.get(decision.reason) or enum_word(
        device_info_pb2.PlacementReason, decision.reason, "PLACEMENT_REASON_"
    )
    if decision.HasField("expected_duration"):
        why += f", about {duration(seconds_of(decision.expected_duration))}"
    return f"{device} ({why})"
