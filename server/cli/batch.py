"""Run a batch: send it, follow it, keep its pictures, and say what became of its items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from deviceops.v1 import event_pb2
from server.cli.batch_request import BatchOptions, BatchRequest, batch_request
from server.cli.client import Client
from server.cli.endings import conclude
from server.cli.exits import Exit
from server.cli.failures import CallFailed, CallFailure, Violation, from_failure
from server.cli.following import Ending, Follower, Manner
from server.cli.generation import (
    PictureKeeper,
    completed_options,
    ending_facts,
    ending_lines,
    output_folder,
    repeatable,
    stored_picture_of,
)
from server.cli.narration import ends_item
from server.cli.request import GenerationOptions, generate_request
from server.cli.views import View, chosen, message_facts, picture_facts


def run(
    client: Client,
    options: GenerationOptions,
    batch: BatchOptions,
    output: Path | None,
    *,
    as_json: bool,
) -> Exit:
    """Draw every item, save, and show both; the exit code, which is FAILED where an item is.

    Args:
        client: Where it is drawn.
        options: What all items have in common.
        batch: In what they differ.
        output: As of a single generation; names of files have the item's in them.
        as_json: Whether programs read it.

    Raises:
        UnusableOptions: The options make no request.
        CallFailed: The server refused, the connection was lost, or a picture arrived
            damaged or could not be written.
    """
    folder = output_folder(options, output)
    options = completed_options(options, output, as_json=as_json)
    picture = stored_picture_of(client)
    template = generate_request(options, picture, prompted=True)
    request = batch_request(template, batch, picture)
    message = request.message
    with chosen(as_json=as_json) as view:
        for said in () if options.like is None else options.like.notes:
            view.note(said)
        keeper = ItemKeeper(folder, view, request, data=not options.no_data)
        follower = Follower(
            client,
            handle=keeper.take,
            note=view.note,
            manner=Manner(reattach=options.detach, delivery=message.delivery),
        )
        try:
            ending = follower.follow(lambda: client.inference.GenerateBatch(message))
        except CallFailed as error:
            failure = repeatable(error.failure, message.options.request_id)
            raise CallFailed(_with_origins(failure, request)) from error
    facts = {
        "request_id": message.options.request_id,
        "pictures": [picture_facts(each) for each in keeper.pictures.saved],
        "items": [message_facts(each) for each in keeper.ended],
        **ending_facts(ending),
    }
    lines = [*_counts(keeper, ending), *ending_lines(ending, keeper.pictures)]
    return conclude(view, _judged(ending, keeper, request), lines, facts, as_json=as_json)


class ItemKeeper:
    """Keeps pictures as a `PictureKeeper` does, and what became of the items.

    Args:
        output: Folder, or file, as `name_for` reads it.
        view: Gets every event.
        request: What the items are.
        data: Whether pictures come in the stream; else only their ids do.
    """

    def __init__(self, output: Path, view: View, request: BatchRequest, *, data: bool) -> None:
        self.pictures = PictureKeeper(output, view, data=data)
        self._view = view
        self._request = request
        self._told = set[str]()
        self.ended: list[event_pb2.ItemFinished] = []

    def take(self, event: event_pb2.SessionEvent) -> None:
        """As of `PictureKeeper`; before an item's first event it says what the item is."""
        said = self._request.said_of(event.item_id)
        if said and event.item_id not in self._told:
            self._told.add(event.item_id)
            self._view.note(f"{event.item_id}: {said}")
        self.pictures.take(event)
        if ends_item(event):
            self.ended.append(event.item_finished)

    @property
    def failed(self) -> list[event_pb2.ItemFinished]:
        """Those that did not work."""
        return [item for item in self.ended if item.HasField("failure")]


def _counts(keeper: ItemKeeper, ending: Ending) -> Iterable[str]:
    """How many items worked, failed, and were not come to."""
    if not keeper.ended:
        return
    total, failed = keeper.ended[-1].total_count, len(keeper.failed)
    left = total - len(keeper.ended)
    said = f"{len(keeper.ended) - failed} of {total} items worked, {failed} failed"
    yield said + (f", {left} were not finished" if left and ending.terminal else "")


def _judged(ending: Ending, keeper: ItemKeeper, request: BatchRequest) -> Ending:
    """A batch that ended well has failed where one of its items has."""
    if ending.state != "completed" or not keeper.failed:
        return ending
    return replace(ending, failure=_items_failed(keeper, request))


def _items_failed(keeper: ItemKeeper, request: BatchRequest) -> CallFailure:
    failures = [(item.item_id, from_failure(item.failure)) for item in keeper.failed]
    total, count = keeper.ended[-1].total_count, len(failures)
    return CallFailure(
        status="ITEMS_FAILED",
        message=f"{count} of {total} items failed.",
        violations=tuple(
            Violation(_named(item_id, request), failure.message, failure.reason)
            for item_id, failure in failures
        ),
    )


def _named(item_id: str, request: BatchRequest) -> str:
    said = request.said_of(item_id)
    return f"{item_id} ({said})" if said else item_id


def _with_origins(failure: CallFailure, request: BatchRequest) -> CallFailure:
    """With what the person wrote of which the fields at fault were made."""
    found = [
        f"{place} is {origin}"
        for place, origin in request.origins.items()
        if any(violation.field.startswith(place) for violation in failure.violations)
    ]
    return replace(failure, advice="\n".join(filter(None, [failure.advice, *found])))
