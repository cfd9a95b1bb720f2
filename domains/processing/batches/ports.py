"""What batches need of those who do the work, and of the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from domains.device.types import DeviceChoice, DeviceReport
from domains.processing.batches.types import ItemWork, Settled
from domains.session.core.plan import SessionRequest
from domains.session.types import Priority
from domains.session.types.named import Named


class Template(Protocol):
    """What the items of one batch have in common, and how each becomes work."""

    def combinations(self) -> Sequence[ItemWork]:
        """The items of its matrix; none where it has no matrix.

        Raises:
            InvalidArgument: The matrix breaks a rule.
        """
        ...

    async def check(self, works: Sequence[ItemWork]) -> Sequence[Settled]:
        """Check items, as starting each of them would, and decide what they leave open.

        Without any, what can be said of the template alone is checked.

        Raises:
            InvalidArgument: With every broken rule of all of them, by its field in the request.
            DomainError: Whatever forbids one of them.
        """
        ...

    def request(self, work: ItemWork, settled: Settled, priority: Priority) -> SessionRequest:
        """An item as the session that does it.

        Raises:
            DomainError: What it needs is not there any more.
        """
        ...

    def together(
        self, works: Sequence[tuple[ItemWork, Settled]], priority: Priority
    ) -> SessionRequest:
        """Several items as one session, in which they share what they can.

        It tells each item's end in its log, by its name.

        Raises:
            DomainError: What they need is not there any more.
        """
        ...

    async def at_once(
        self, work: ItemWork, settled: Settled, device_ids: Sequence[str]
    ) -> int | None:
        """How many items like this one the memory that is free on each of these devices
        suffices for when they share what they can; None where nobody knows.

        Raises:
            DomainError: It cannot be done any more.
        """
        ...


Templates = Callable[[bytes], Template]
"""The template in the request of a batch."""


@dataclass(frozen=True)
class BatchNames:
    """What batches name of what the server keeps: `of_request` all items of one together, by
    the request that made it, `of_item` an item by itself."""

    of_request: Callable[[bytes], Named]
    of_item: Callable[[ItemWork], Named]


class BatchDevices(Protocol):
    """The machine's devices."""

    async def matching(self, choice: DeviceChoice) -> tuple[DeviceReport, ...]:
        """The devices that `choice` is about, usable or not.

        Raises:
            DomainError: There is none, or one may still be found.
        """
        ...

    def selected(self, choice: DeviceChoice) -> tuple[DeviceReport, ...]:
        """Those known now; waits for nothing."""
        ...
