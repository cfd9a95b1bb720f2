"""Durable batches from the command line: sent in pieces, followed while they are worked off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deviceops.v1 import batch_pb2, event_pb2, generation_pb2, session_pb2
from server.cli.batch_items import read_items
from server.cli.choices import UnusableOptions, duration_in
from server.cli.client import Client
from server.cli.endings import conclude
from server.cli.exits import Exit
from server.cli.failures import CallFailed, CallFailure, Violation, from_failure
from server.cli.following import Ending, Follower, Manner
from server.cli.generation import PictureKeeper, output_folder, repeatable, stored_picture_of
from server.cli.request import GenerationOptions, generate_request
from server.cli.views import View, chosen, message_facts, picture_facts
from server.cli.wording import printable

_MOST_ITEMS = 1000  # of one call
_MOST_BYTES = 3 * 2**20  # of one call's items, so that a message stays below 4 MiB
_SEND_SECONDS = 300.0  # every item is checked before the answer comes


@dataclass(frozen=True)
class BatchManner:
    """How a person wants a batch worked off; None means that they said nothing about it."""

    parallel: int | None = None
    max_failures: int | None = None
    attempts: int | None = None
    backoff: str | None = None
    item_timeout: str | None = None
    share: bool = False


@dataclass(frozen=True)
class _Ended:
    """What became of items while somebody watched."""

    failed: list[event_pb2.ItemFinished] = field(default_factory=list)
    counts: list[int] = field(default_factory=lambda: [0, 0, 0])  # done, failed, in all


def create(
    client: Client, path: Path, options: GenerationOptions, manner: BatchManner
) -> batch_pb2.Batch:
    """Start a batch of a file's items; it is on disk when this returns.

    Raises:
        UnusableOptions: The options make no request, or the file holds no items.
        CallFailed: The server refused; an item is named by its line of the file.
    """
    request, lines = _request(client, path, options, manner)
    items = list(request.items)
    pieces = list(_pieces(items))
    del request.items[:]
    request.items.extend(pieces[0])
    request.keep_open = len(pieces) > 1
    sent = 0
    batch: batch_pb2.Batch | None = None
    try:
        batch = client.ask(client.processing.CreateBatch, request, timeout=_SEND_SECONDS).batch
        for number, piece in enumerate(pieces[1:], 2):
            sent += len(pieces[number - 2])
            more = batch_pb2.AddBatchItemsRequest(
                batch_id=batch.batch_id, items=piece, seal=number == len(pieces)
            )
            batch = client.ask(
                client.processing.AddBatchItems, more, timeout=_SEND_SECONDS
            ).batch
    except CallFailed as error:
        failure = error.failure
        if batch is None:
            failure = repeatable(failure, request.options.request_id)
        failure = _with_lines(failure, path, lines[sent:])
        raise CallFailed(_sent_in_part(failure, batch, request)) from error
    except KeyboardInterrupt as error:
        failure = CallFailure(status="CANCELLED", message="Interrupted.")
        raise CallFailed(_sent_in_part(failure, batch, request)) from error
    return batch


def _request(
    client: Client, path: Path, options: GenerationOptions, manner: BatchManner
) -> tuple[batch_pb2.CreateBatchRequest, Sequence[int]]:
    """The request with all items, and the line of the file that each begins on."""
    picture = stored_picture_of(client)
    one = generate_request(options, picture, prompted=True)
    request = batch_pb2.CreateBatchRequest(
        template=one.settings,
        options=one.options,
        max_failures=manner.max_failures,
        max_parallel=manner.parallel,
    )
    if one.HasField("placement"):
        request.devices.CopyFrom(one.placement.any)
        if one.placement.device_id:
            request.devices.device_ids.append(one.placement.device_id)
    if manner.attempts is not None:
        request.retry.max_attempts = manner.attempts
    if manner.backoff is not None:
        request.retry.backoff.CopyFrom(duration_in("--backoff", manner.backoff))
    if manner.item_timeout is not None:
        request.item_run_timeout.CopyFrom(duration_in("--item-timeout", manner.item_timeout))
    if manner.share:
        request.computation = generation_pb2.BATCH_COMPUTATION_THROUGHPUT
    read = read_items(path, one.settings, picture)
    for _, item in read:
        request.items.add(item_id=item.item_id, overlay=item.overlay)
    return request, [line for line, _ in read]


def _pieces(items: Iterable[batch_pb2.BatchItem]) -> Iterator[list[batch_pb2.BatchItem]]:
    """The items in pieces that fit into a call each."""
    piece: list[batch_pb2.BatchItem] = []
    held = 0
    for item in items:
        size = item.ByteSize()
        if piece and (len(piece) == _MOST_ITEMS or held + size > _MOST_BYTES):
            yield piece
            piece, held = [], 0
        piece.append(item)
        held += size
    yield piece


def _with_lines(failure: CallFailure, path: Path, lines: Sequence[int]) -> CallFailure:
    """With the lines of the file that the fields at fault came from."""
    found = {
        f"items[{at}] is line {line} of {path}": None
        for violation in failure.violations
        for at, line in enumerate(lines[:_MOST_ITEMS])
        if violation.field.startswith(f"items[{at}]")
    }
    return replace(failure, advice="\n".join(filter(None, [failure.advice, *found])))


def _sent_in_part(
    failure: CallFailure,
    batch: batch_pb2.Batch | None,
    request: batch_pb2.CreateBatchRequest,
) -> CallFailure:
    """With what there is of the batch, which is worked off and waits for the rest."""
    if batch is None:
        return failure
    batch_id = printable(batch.batch_id)
    advice = (
        f"Batch {batch_id} has {batch.item_count} items, works them off and waits for more."
        f" Send the same file, in which those are as they were, with --request-id"
        f" {request.options.request_id}, or end it: deviceops batch cancel {batch_id}"
    )
    return replace(failure, advice="\n".join(filter(None, [failure.advice, advice])))


def follow(
    client: Client,
    batch: batch_pb2.Batch,
    output: Path | None,
    *,
    first: int = 0,
    as_json: bool,
) -> Exit:
    """Show a batch while it is worked off and save its pictures; the exit code is FAILED where
    an item is.

    Ctrl-C ends the watching, and the batch goes on.

    Args:
        client: Where it is.
        batch: Which.
        output: The folder for pictures; None leaves them with the server.
        first: The first event wanted.
        as_json: Whether programs read it.

    Raises:
        CallFailed: There is no such batch, the connection was lost for good, or a picture
            cannot be written.
    """
    delivery = session_pb2.DeliveryOptions(omit_image_data=output is None)
    request = batch_pb2.WatchBatchRequest(
        batch_id=batch.batch_id, from_sequence=first, delivery=delivery
    )
    ended = _Ended()
    with chosen(as_json=as_json) as view:
        view.note(f"Batch {printable(batch.batch_id)}: {batch.item_count} items")
        keeper = PictureKeeper(output or Path(), view, data=output is not None)
        follower = Follower(
            client,
            handle=lambda event: _take(event, keeper, view, ended),
            note=view.note,
            manner=Manner(cancel_on_interrupt=False, reattach=True, delivery=delivery),
        )
        ending = follower.follow(lambda: client.processing.WatchBatch(request))
        left = ending.terminal is None
        now = client.ask(
            client.processing.GetBatch,
            batch_pb2.GetBatchRequest(batch_id=batch.batch_id, page_size=1),
        ).batch
    facts = {
        "batch": message_facts(now),
        "pictures": [picture_facts(each) for each in keeper.saved],
        "failed_items": [message_facts(each) for each in ended.failed],
    }
    goes_on = f"It goes on: deviceops batch watch {printable(batch.batch_id)}"
    lines = [goes_on] if left else [_counted(now)]
    return conclude(view, _judged(ending, now, ended), lines, facts, as_json=as_json)


def _take(
    event: event_pb2.SessionEvent, keeper: PictureKeeper, view: View, ended: _Ended
) -> None:
    if event.WhichOneof("event") == "item_finished" and event.item_finished.HasField("failure"):
        ended.failed.append(event.item_finished)
    keeper.take(event)


def _counted(batch: batch_pb2.Batch) -> str:
    """What became of its items."""
    parts = [f"{batch.completed_count} of {batch.item_count} items worked"]
    if batch.failed_count:
        parts.append(f"{batch.failed_count} failed")
    if batch.cancelled_count:
        parts.append(f"{batch.cancelled_count} cancelled")
    return ", ".join(parts) + (f": {printable(batch.end_reason)}" if batch.end_reason else "")


def _judged(ending: Ending, batch: batch_pb2.Batch, ended: _Ended) -> Ending:
    """A batch that ended well has failed where one of its items has."""
    if ending.state != "completed" or not batch.failed_count:
        return ending
    failures = [(item.item_id, from_failure(item.failure)) for item in ended.failed]
    failure = CallFailure(
        status="ITEMS_FAILED",
        message=f"{batch.failed_count} of {batch.item_count} items failed.",
        violations=tuple(
            Violation(item_id, failed.message, failed.reason) for item_id, failed in failures
        ),
        advice=f"Run them again: deviceops batch retry {printable(batch.batch_id)}",
    )
    return replace(ending, failure=failure)


def folder_for(options: GenerationOptions, output: Path | None, *, data: bool) -> Path | None:
    """Where pictures go; None where they stay with the server."""
    if not data:
        return None
    if output is not None and output.suffix and not output.is_dir():
        raise UnusableOptions("--output of a batch is a folder")
    return output_folder(options, output)
