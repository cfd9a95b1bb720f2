"""How a device is, from what discovery found and what its worker says; and why one is not."""

from __future__ import annotations

from collections.abc import Sequence

from domains.device.core.naming import CLUSTER, kinds_meant
from domains.device.errors import DeviceQuarantined, DeviceUnavailable
from domains.device.types import (
    Device,
    DeviceReport,
    DeviceState,
    ProbeOutcome,
    WorkerStatus,
)


def report_of(device: Device, worker: WorkerStatus, default_id: str) -> DeviceReport:
    """The device as it is now."""
    state, explanation = worker.state, worker.explanation
    # A worker that is ready knows better than the last look from outside.
    if device.lost and state is not DeviceState.READY:
        state, explanation = DeviceState.LOST, device.explanation
    elif state is DeviceState.UNAVAILABLE and device.explanation:
        explanation = device.explanation
    return DeviceReport(device, state, explanation, device.device_id == default_id)


def refuse_unusable(report: DeviceReport) -> None:
    """Accept a device that works or will in a moment.

    Raises:
        DeviceUnavailable: It is lost, or cannot be used on this machine.
        DeviceQuarantined: It failed too often.
    """
    device_id = report.device.device_id
    if report.state in (DeviceState.LOST, DeviceState.UNAVAILABLE):
        raise DeviceUnavailable(device_id, sentence(report.explanation))
    if report.state is DeviceState.QUARANTINED:
        raise DeviceQuarantined(device_id, report.explanation)


def why_missing(
    name: str, devices: Sequence[Device], probes: Sequence[ProbeOutcome], unseen: str = ""
) -> str:
    """Why no device goes by `name`, a sentence: what the probes of its kinds said, or for one
    of another machine `unseen`, why others could not be looked at."""
    if unseen and name.startswith(f"{CLUSTER}:"):
        return sentence(unseen)
    kinds = kinds_meant(name)
    known = ", ".join(device.device_id for device in devices)
    if not kinds:
        return f"this machine has {known}."
    if any(device.kind in kinds for device in devices):
        return f"no device of that kind has this number; this machine has {known}."
    reasons = (
        f"{outcome.kind.value}: {outcome.explanation}"
        for kind in kinds
        for outcome in probes
        if outcome.kind is kind
    )
    return sentence("; ".join(reasons))


def sentence(words: str) -> str:
    """`words` with the full stop that drivers leave out."""
    return words if words.endswith(".") else f"{words}."
