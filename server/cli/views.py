"""Progress in lines and in JSON, and the choice between the views."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

from google.protobuf import json_format
from google.protobuf.message import Message

from deviceops.v1 import event_pb2, session_pb2
from server.cli.narration import ends_item, sentence
from server.cli.pictures import SavedPicture
from server.cli.wording import printable

_ENDINGS = ("completed", "failed", "cancelled")  # the summary tells them
_COUNTED = ("step_finished", "transfer_progress", "item_finished")


class View(AbstractContextManager["View"], Protocol):
    """Shows a session while it runs. Notes may come from any thread."""

    def event(self, event: event_pb2.SessionEvent) -> None:
        """Show that something happened."""

    def note(self, text: str) -> None:
        """Show a sentence of this side."""

    def saved(self, picture: SavedPicture) -> None:
        """Show that a picture is on disk."""

    def left(self, image: session_pb2.ImageResult) -> None:
        """Show that a picture is finished and stays with the server."""

    def summary(self, facts: dict[str, object], lines: Iterable[str]) -> None:
        """Close with the outcome: facts for programs, lines for people."""


class _Plain:
    """What both plain views share: nothing to set up or to clear away."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None


class LineView(_Plain):
    """A line per thing that happened on stderr; paths of saved pictures on stdout."""

    def __init__(self) -> None:
        self._shown = ""
        self._tenth: tuple[object, int] = ("", 0)

    def event(self, event: event_pb2.SessionEvent) -> None:
        kind = event.WhichOneof("event")
        if kind in _ENDINGS or (kind in _COUNTED and not self._next_tenth(event)):
            return
        line = sentence(event)
        if line and line != self._shown:
            self._shown = line
            print(line, file=sys.stderr, flush=True)

    def _next_tenth(self, event: event_pb2.SessionEvent) -> bool:
        """Whether a new tenth of the steps, tiles or bytes is done: a line for each is
        plenty. Items and steps of a workflow are all told."""
        step, transfer, piece = (
            event.step_finished,
            event.transfer_progress,
            event.item_finished,
        )
        tenth: tuple[object, int]
        if event.WhichOneof("event") == "step_finished":
            tenth = step.image_index, step.step * 10 // max(1, step.steps)
        elif event.WhichOneof("event") == "item_finished":
            if ends_item(event):
                return True
            whose = event.item_id, piece.item_id
            tenth = whose, piece.done_count * 10 // max(1, piece.total_count)
        else:
            tenth = "bytes", transfer.done_bytes * 10 // max(1, transfer.total_bytes)
        new, self._tenth = tenth != self._tenth, tenth
        return new

    def note(self, text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)

    def saved(self, picture: SavedPicture) -> None:
        print(picture.path, flush=True)

    def left(self, image: session_pb2.ImageResult) -> None:
        print(printable(image.artifact_id), flush=True)

    def summary(self, facts: dict[str, object], lines: Iterable[str]) -> None:
        for line in lines:
            print(line, file=sys.stderr, flush=True)


class JsonView(_Plain):
    """One JSON object per line on stdout; the contract's own JSON form, without bytes."""

    def event(self, event: event_pb2.SessionEvent) -> None:
        write_json({"type": "event", "event": event_facts(event)})

    def note(self, text: str) -> None:
        write_json({"type": "note", "text": text})

    def saved(self, picture: SavedPicture) -> None:
        write_json({"type": "saved", **picture_facts(picture)})

    def left(self, image: session_pb2.ImageResult) -> None:
        write_json({"type": "left", **message_facts(image)})

    def summary(self, facts: dict[str, object], lines: Iterable[str]) -> None:
        write_json({"type": "summary", **facts})


def write_json(value: object) -> None:
    """One line of JSON on stdout, whole or not at all."""
    sys.stdout.write(json.dumps(value, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def write_message(message: Message) -> None:
    """A message of the contract in its own JSON form, every field present, indented."""
    write_facts(message_facts(message))


def message_facts(message: Message) -> dict[str, Any]:
    """A message as JSON values with the contract's field names, every field present."""
    facts: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return facts


def write_facts(facts: dict[str, Any]) -> None:
    """JSON on stdout, indented."""
    print(json.dumps(facts, indent=2))


def event_facts(event: event_pb2.SessionEvent) -> dict[str, object]:
    """An event as JSON values; of picture bytes only their number is left."""
    kind = event.WhichOneof("event")
    if kind not in ("preview", "image_chunk"):
        return json_format.MessageToDict(event, preserving_proto_field_name=True)
    data_bytes = len(getattr(event, kind).data)
    lean = event_pb2.SessionEvent()
    lean.CopyFrom(event)
    getattr(lean, str(kind)).ClearField("data")
    facts = json_format.MessageToDict(lean, preserving_proto_field_name=True)
    facts[str(kind)]["data_bytes"] = data_bytes
    return facts


def picture_facts(picture: SavedPicture) -> dict[str, object]:
    """A saved picture as JSON values."""
    return {
        "image_index": picture.image_index,
        "seed": picture.seed,
        "artifact_id": picture.artifact_id,
        "path": str(picture.path),
        "width": picture.width,
        "height": picture.height,
        "size_bytes": picture.size_bytes,
    }


def chosen(*, as_json: bool) -> View:
    """The view for this output: JSON when asked for, live in terminals, else lines."""
    if as_json:
        return JsonView()
    from server.cli.live import LiveView, terminal

    console = terminal()
    return LiveView(console) if console.is_terminal else LineView()
