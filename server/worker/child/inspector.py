"""`python -m server.worker.child.inspector`: does one job on untrusted files, and ends.

It has a link like a worker, on which it gets one order and says how that goes. It imports no
torch and, once it knows its job, what that job needs; it is ended from outside whenever nobody
wants its answer any more.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any, Union

from domains.codec import encode
from domains.errors import DomainError, Internal
from domains.model.jobs import ConversionReport, ConvertJob, InspectionReport, InspectJob
from domains.picture.jobs import (
    ControlImageJob,
    ControlImageReport,
    PictureJob,
    PictureReport,
    ThumbnailJob,
    ThumbnailReport,
)
from domains.provenance.jobs import VerifyJob, VerifyReport
from domains.session.jobs import EncodedImage, Handler, JobContext, PartEnded
from domains.session.types import ProgressEvent
from domains.shortages import shortage_of
from domains.values import ByteFigure
from server.worker.child.environment import settle_environment
from server.worker.child.limits import close_the_doors, limit_to
from server.worker.child.parent_death import die_with_parent
from server.worker.link import frames
from server.worker.link.connection import Link, LinkClosed, OversizedFrame, connect
from server.worker.link.exits import EXIT_OK, leave
from server.worker.link.start_record import InspectorRecord


def _inspect(job: InspectJob, context: JobContext) -> InspectionReport:
    from domains.model.backends.inspector.inspection import inspect

    return inspect(job, context)


def _convert(job: ConvertJob, context: JobContext) -> ConversionReport:
    from domains.model.backends.inspector.conversion import convert

    return convert(job, context)


def _prepare(job: PictureJob, context: JobContext) -> PictureReport:
    from domains.picture.backends.preparing import prepare

    return prepare(job, context)


def _make_control_image(job: ControlImageJob, context: JobContext) -> ControlImageReport:
    from domains.picture.backends.preparing import make_control_image

    return make_control_image(job, context)


def _make_thumbnail(job: ThumbnailJob, context: JobContext) -> ThumbnailReport:
    from domains.picture.backends.preparing import make_thumbnail

    return make_thumbnail(job, context)


def _verify(job: VerifyJob, context: JobContext) -> VerifyReport:
    from domains.provenance.backends.reading import verify

    return verify(job, context)


HANDLERS: Mapping[type, Handler] = {
    InspectJob: _inspect,
    ConvertJob: _convert,
    PictureJob: _prepare,
    ControlImageJob: _make_control_image,
    ThumbnailJob: _make_thumbnail,
    VerifyJob: _verify,
}

_SIGN_SECONDS = 2.0
_NO_DEVICE = ByteFigure.unknown("the work needs no device")


def main(handlers: Mapping[type, Handler]) -> None:
    """Read the start record from standard input, do one job, and wait to be ended."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    faulthandler.enable()
    record = InspectorRecord.from_bytes(sys.stdin.buffer.readline())
    die_with_parent(record.parent_process_id)
    logging.basicConfig(
        level=record.log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    settle_environment()
    with contextlib.suppress(LinkClosed, OversizedFrame):
        link = connect(record.address, record.key)
        limit_to(record)
        close_the_doors()
        order = frames.decode_to_worker(link.receive())
        if isinstance(order, frames.RunOrder):
            watching = threading.Thread(target=_end_with_front, args=(link,), daemon=True)
            with contextlib.suppress(RuntimeError):  # the system gives no thread
                watching.start()
            link.send(encode(_answer(order, link, handlers)))
            if watching.ident is None:
                _end_with_front(link)
            watching.join()
    leave(EXIT_OK)


def _end_with_front(link: Link) -> None:
    """End once the front is done with this process or gone, whatever the job is at: not every
    system ends it then."""
    with contextlib.suppress(LinkClosed, OversizedFrame):
        link.receive()
    leave(EXIT_OK)


def _answer(
    order: frames.RunOrder, link: Link, handlers: Mapping[type, Handler]
) -> frames.Done | frames.Failed:
    kinds: Any = Union[tuple(handlers)]  # noqa: UP007 - it is known at run time only
    told = ""
    try:
        job = frames.decoded(kinds, bytes(order.job))
        report = handlers[type(job)](job, _Context(order, link))
        return frames.Done(order.session_id, order.epoch, frames.raw(report), _NO_DEVICE)
    except DomainError as error:
        known: DomainError | None = error
    except Exception as error:
        known = shortage_of(error)
        told = traceback.format_exc()[-frames.LONGEST_TRACEBACK :]
    failure = (known or Internal("The inspector failed on this file.")).failure()
    return frames.Failed(order.session_id, order.epoch, failure, traceback=told)


class _Context:
    """How the handler speaks to the front; see the port `JobContext`."""

    def __init__(self, order: frames.RunOrder, link: Link) -> None:
        self._order = order
        self._link = link
        self._sent_at = time.monotonic()

    def emit(self, event: ProgressEvent | EncodedImage | PartEnded) -> None:
        """Say what happened."""
        if isinstance(event, EncodedImage | PartEnded):
            raise TypeError("an inspector's jobs have no pictures and no parts")
        self._send(event)

    def check_stop(self) -> None:
        """A process that is to stop is ended; this only says that it moves on."""
        if time.monotonic() - self._sent_at >= _SIGN_SECONDS:
            self._send(None)

    def _send(self, event: ProgressEvent | None) -> None:
        order = self._order
        self._link.send(encode(frames.Progress(order.session_id, order.epoch, event)))
        self._sent_at = time.monotonic()


if __name__ == "__main__":
    main(HANDLERS)
