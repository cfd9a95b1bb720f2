"""Errors of devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domains.device.types import DeviceChoice
from domains.errors import InvalidArgument, NotFound, Reason, Unavailable

CHOICE_FIELD = "placement.any"
_NAME_SHOWN = 64


class DeviceNotFound(NotFound):
    """No device has that id or alias; the message says why its kind has none."""

    def __init__(self, name: str, why: str) -> None:
        shown = name[:_NAME_SHOWN]
        super().__init__(
            f"There is no device {shown!r}: {why}",
            reason=Reason.DEVICE_NOT_FOUND,
            metadata={"device_id": ascii(shown)[1:-1]},
        )


class NoDeviceMatches(NotFound):
    """A request may run on any of some devices, and this machine has none of them."""

    def __init__(self, choice: DeviceChoice, known: Sequence[str]) -> None:
        field = f"{CHOICE_FIELD}.{'device_ids' if choice.device_ids else 'kinds'}"
        both = " that is of these kinds as well" if choice.device_ids and choice.kinds else ""
        message = f"This machine has none of these devices{both}; it has {', '.join(known)}."
        super().__init__(
            message,
            reason=Reason.DEVICE_NOT_FOUND,
            metadata={"field": field, "device_ids": ",".join(known)},
        )


class NoDeviceReady(Unavailable):
    """A request may run on any of some devices, and none of them works or soon will.

    `why` says it for each device; DEVICE_QUARANTINED where RestartWorker can help one.
    """

    def __init__(self, why: Mapping[str, str], *, quarantined: bool) -> None:
        each = " ".join(f"{device_id}: {words}" for device_id, words in why.items())
        help = "; RestartWorker may help" if quarantined else ""
        message = f"None of the devices that the work may run on can be used now{help}. {each}"
        super().__init__(
            message,
            reason=Reason.DEVICE_QUARANTINED if quarantined else Reason.DEVICE_UNAVAILABLE,
            metadata={"field": CHOICE_FIELD, "device_ids": ",".join(why)},
        )


class DeviceUnavailable(Unavailable):
    """The device is known and cannot be used now."""

    def __init__(self, device_id: str, why: str) -> None:
        super().__init__(
            f"Device {device_id} cannot be used: {why}",
            reason=Reason.DEVICE_UNAVAILABLE,
            metadata={"device_id": device_id},
        )


class DeviceQuarantined(Unavailable):
    """The device failed too often and is kept out of use."""

    def __init__(self, device_id: str, why: str) -> None:
        super().__init__(
            f"Device {device_id} failed too often and is kept out of use for now; "
            f"RestartWorker lifts that. {why}".strip(),
            reason=Reason.DEVICE_QUARANTINED,
            metadata={"device_id": device_id},
        )


class DeviceLost(Unavailable):
    """The device works no more in the process that used it."""

    def __init__(self) -> None:
        super().__init__(
            "The device stopped working; its worker is started again.",
            reason=Reason.DEVICE_LOST,
        )


class DeviceGone(Unavailable):
    """The device was there, and the last look found it no more."""

    def __init__(self, device_id: str, why: str) -> None:
        super().__init__(
            f"Device {device_id} was there and is gone: {why}",
            reason=Reason.DEVICE_LOST,
            metadata={"device_id": device_id},
        )


class DeviceWorkerLost(Unavailable):
    """The worker of the device ended, and another one takes its place."""

    def __init__(self, device_id: str, why: str) -> None:
        super().__init__(
            f"The worker of device {device_id} ended and is being replaced. {why}".strip(),
            reason=Reason.WORKER_LOST,
            metadata={"device_id": device_id},
        )


class DiscoveryIncomplete(Unavailable):
    """Devices are still being looked for, and the one meant is not among those found."""

    def __init__(self) -> None:
        super().__init__(
            "The server is still looking for this machine's devices and has not found the "
            "one meant yet; try again in a moment.",
            reason=Reason.DEVICE_UNAVAILABLE,
            retry_after=2.0,
        )


class InvalidTask(InvalidArgument):
    """The request to do something with a device breaks rules."""
