"""What a request names of what the server keeps, wherever in it that stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from deviceops.v1 import common_pb2
from domains.session.convert.kept import message_in
from domains.session.records import KeptMessage
from domains.session.types.named import NOTHING_NAMED, Named


def named_in(message: Message) -> Named:
    """Artifacts, by every field of that name, and pictures of sessions."""
    messages = list(_messages(message))
    return Named(
        frozenset(
            each.artifact_id
            for each in messages
            if "artifact_id" in each.DESCRIPTOR.fields_by_name and each.artifact_id
        ),
        frozenset(
            (each.session_id, each.image_index)
            for each in messages
            if isinstance(each, common_pb2.SessionImage)
        ),
    )


def named_in_kept(kept: KeptMessage) -> Named:
    """The same of a request that was kept; one that nobody can read any more names nothing, and
    fails when it is taken up."""
    message = message_in(kept)
    return NOTHING_NAMED if message is None else named_in(message)


def _messages(message: Message) -> Iterator[Any]:
    """It, and all that are in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is None:
                continue
            within = value.values()
        else:
            within = value if field.is_repeated else (value,)
        for each in within:
            yield from _messages(each)
