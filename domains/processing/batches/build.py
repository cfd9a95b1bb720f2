"""Batches, put together."""

from __future__ import annotations

from dataclasses import dataclass

from deviceops.v1 import batch_pb2
from domains.clock import Clock
from domains.loops import Loop
from domains.processing.batches import convert
from domains.processing.batches.core.batches import Batches
from domains.processing.batches.core.control import BatchControl
from domains.processing.batches.core.run import Means
from domains.processing.batches.core.shelf import Shelf
from domains.processing.batches.ports import BatchDevices, Templates
from domains.processing.batches.servicer import BatchParts
from domains.processing.core.control import SessionControl
from domains.records import Records
from domains.session import build as session_build
from domains.session.ports import FaultReporter

_SWEEP_SECONDS = 1.0


@dataclass(frozen=True)
class Kept:
    """What outlives the server of batches."""

    batches: Records
    items: Records


@dataclass(frozen=True)
class Built:
    """What others need of them."""

    parts: BatchParts
    loops: tuple[Loop, ...]

    def recall(self) -> None:
        """Know the batches of an earlier server, before any session goes on."""
        self.parts.batches.recall()


def build(
    session: session_build.Built,
    devices: BatchDevices,
    kept: Kept,
    templates: Templates,
    *,
    describe: FaultReporter,
    clock: Clock,
) -> Built:
    """Batches over sessions.

    Args:
        session: The sessions.
        devices: The machine's devices.
        kept: What outlives the server.
        templates: Reads the template in a batch's request.
        describe: What a client sees of an error.
        clock: The time.
    """
    means = Means(
        session.sessions,
        session.runner,
        devices,
        Shelf(kept.batches, kept.items),
        describe,
        clock,
    )
    starters = session.starters
    batches = Batches(means, templates, convert.NAMES)
    starters.know(batch_pb2.CreateBatchRequest, convert.batch_from_proto, batches.create)
    # What makes a batch that has ended go on; the items themselves are noted.
    starters.know(
        batch_pb2.RetryBatchItemsRequest, lambda message: message.batch_id, batches.go_on
    )
    control = BatchControl(
        batches,
        SessionControl(session.sessions),
        means,
        templates,
        go_on=lambda batch_id: starters.request_of(
            batch_pb2.RetryBatchItemsRequest(batch_id=batch_id)
        ),
    )
    parts = BatchParts(
        batches, control, starters, session.runner, session.reader, session.converter
    )
    return Built(parts, (Loop("forgotten batches", _SWEEP_SECONDS, batches.sweep),))
