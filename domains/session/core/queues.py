"""All queues: one per device, and one for each session that is on no device."""

from __future__ import annotations

from collections.abc import Callable

from domains.rooms import Room
from domains.session.core.places import Turn
from domains.session.core.queue import DeviceQueue
from domains.session.core.session import Session
from domains.session.errors import QueueFull


class Queues:
    """Makes queues at first need and knows in which of them a session is.

    A session that is on no device only starts others: it has a queue of its own, in which its
    turn comes at once, until it is final. Their number is bounded as that of those that wait
    for a device is, with fair shares for clients.

    Args:
        make: A queue by its name.
        length: Sessions that may wait for one device, or be on none.
    """

    def __init__(self, make: Callable[[str], DeviceQueue], length: int) -> None:
        self._make = make
        self._of_devices: dict[str, DeviceQueue] = {}
        self._own: dict[str, DeviceQueue] = {}
        self._room = Room(length)
        self._of_sessions: dict[str, DeviceQueue] = {}

    def of_device(self, device_id: str) -> DeviceQueue:
        """A device's, or that of something else that only one session may use at a time."""
        if device_id not in self._of_devices:
            self._of_devices[device_id] = self._make(device_id)
        return self._of_devices[device_id]

    def of_session(self, session: Session) -> DeviceQueue | None:
        """Where it is; None where it is in none, as if it ended in an earlier server."""
        return self._of_sessions.get(session.session_id)

    def all(self) -> list[DeviceQueue]:
        """Every queue there is."""
        return [*self._of_devices.values(), *self._own.values()]

    def submit(self, session: Session, turn: Turn, name: str, *, returns: bool = False) -> None:
        """Put a session into the queue of that name, or into one of its own if it has none.

        Raises:
            QueueFull: As `DeviceQueue.submit`.
        """
        if not name and not returns:
            QueueFull.check("", self._room, session.owner)
        queue = self.of_device(name) if name else self._own_queue(session)
        queue.submit(session, turn, returns=returns)
        self._of_sessions[session.session_id] = queue

    def _own_queue(self, session: Session) -> DeviceQueue:
        self._room.take(session.owner)
        queue = self._own[session.session_id] = self._make("")
        return queue

    def move(self, session: Session, queue: DeviceQueue) -> None:
        """It is in another queue now."""
        self._of_sessions[session.session_id] = queue

    def leave(self, session: Session) -> None:
        """It is final: a queue of its own ends with it."""
        queue = self._own.pop(session.session_id, None)
        if queue is not None:
            self._room.give_back(session.owner)
            self._of_sessions.pop(session.session_id, None)
            queue.close()

    def forget(self, session: Session) -> None:
        """It is known no more."""
        self._of_sessions.pop(session.session_id, None)
