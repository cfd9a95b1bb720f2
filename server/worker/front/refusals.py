"""Why work cannot be done on a device now, as clients see it."""

from __future__ import annotations

from domains.device.types import DeviceState
from domains.session.errors import DeviceOutOfUse, WorkerLost
from server.worker.front.death import Death


def lost(device_id: str, death: Death, retry_after: float) -> WorkerLost:
    """The worker ended in mid-work."""
    return WorkerLost(
        device_id, death.facts, retry_after, repeats=not death.deliberate, gone=death.gone
    )


def out_of_use(
    device_id: str, state: DeviceState, explanation: str, retry_after: float
) -> DeviceOutOfUse:
    """There is no worker now."""
    quarantined = state is DeviceState.QUARANTINED
    return DeviceOutOfUse(device_id, explanation, retry_after, quarantined=quarantined)
