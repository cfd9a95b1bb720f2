"""Messages that were kept, as messages again."""

from __future__ import annotations

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from domains.session.records import KeptMessage


def message_in(kept: KeptMessage) -> Message | None:
    """The message; None where it is of no type that this server knows, or not as that is
    declared."""
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(kept.message)
        return message_factory.GetMessageClass(descriptor).FromString(kept.body)
    except (KeyError, DecodeError):
        return None
