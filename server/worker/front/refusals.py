"""Why work cannot be done on a device now, as clients see it."""

from __future__ import annotations

from domains.errors import Reason, Unavailable
from domains.session.errors import WorkerLost
from server.worker.front.death import Death


def lost(device_id: str, death: Death, retry_after: float) -> WorkerLost:
    """The worker ended in mid-work."""
    return WorkerLost(device_id, death.facts, retry_after, repeats=not death.deliberate)


def out_of_use(
    device_id: str, explanation: str, retry_after: float, *, quarantined: bool
) -> Unavailable:
    """There is no worker now."""
    how = "failed too often and is kept out of use for now" if quarantined else "is not ready"
    return Unavailable(
        f"Device {device_id} {how}. {explanation}".strip(),
        reason=Reason.DEVICE_QUARANTINED if quarantined else Reason.DEVICE_UNAVAILABLE,
        metadata={"device_id": device_id},
        retry_after=retry_after,
    )
