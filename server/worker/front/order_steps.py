"""A memory order from when it is given to a worker until it is over there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from domains.errors import DomainError
from domains.finishing import finished
from server.worker.front.memory_orders import Pending
from server.worker.link.frames import (
    AllocateBuffer,
    FreeBuffer,
    MemoryDone,
    Order,
    Pin,
    Unpin,
)


class Obeying(Protocol):
    """A worker as far as it is given memory orders."""

    @property
    def usable(self) -> bool:
        """Whether it can be given any."""
        ...

    def order(self, order: Order) -> Pending:
        """Give it one."""
        ...

    def stop_order(self, pending: Pending) -> None:
        """Ask it to stop one; nothing happens when that is over."""
        ...


async def steps_of(worker: Obeying, order: Order) -> AsyncGenerator[int | MemoryDone]:
    """Have a usable worker do `order`; yields bytes done so far, and how it ended last.

    Closing the generator early, or cancelling it, stops the order and returns when it has
    stopped: what it allocated or pinned nevertheless is given back.

    Raises:
        DomainError: Whatever the worker refused with, or what ended it.
    """
    pending = worker.order(order)
    heard = False  # by the caller, who may go when there is an outcome already
    try:
        while True:
            match await pending.next():
                case DomainError() as error:
                    heard = True
                    raise error
                case MemoryDone() as done:
                    heard = True
                    yield done
                    return
                case progress:
                    yield progress
    finally:
        if not heard:
            await finished(_abandon(worker, pending))


async def _abandon(worker: Obeying, pending: Pending) -> None:
    """Stop an order that nobody waits for, and undo what came of it anyway."""
    worker.stop_order(pending)
    await pending.over.wait()
    undo = _undo_of(pending.order)
    if undo is not None and isinstance(pending.outcome, MemoryDone) and worker.usable:
        await worker.order(undo).over.wait()


def _undo_of(order: Order) -> Order | None:
    """The order that takes back what this one leaves in the worker, if it leaves anything."""
    match order:
        case AllocateBuffer(buffer_id):
            return FreeBuffer(buffer_id)
        case Pin(segment):
            return Unpin(segment)
        case _:
            return None
