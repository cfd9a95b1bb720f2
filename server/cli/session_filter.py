"""Which sessions a command is about, from words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deviceops.v1 import processing_pb2, session_pb2
from server.cli.choices import PRIORITIES, choose


@dataclass(frozen=True)
class SessionWords:
    """What a person said about the sessions wanted; what is empty means all."""

    states: Sequence[str] = ()
    kinds: Sequence[str] = ()
    owner: str = ""
    device: str = ""
    model: str = ""
    tags: Sequence[str] = ()
    priority: str = ""


def session_filter(words: SessionWords) -> processing_pb2.SessionFilter:
    """The contract's filter.

    Raises:
        UnusableOptions: There is no such state, kind or priority.
    """
    result = processing_pb2.SessionFilter(
        states=[choose(session_pb2.SessionState, "SESSION_STATE_", w) for w in words.states],
        kinds=[choose(session_pb2.SessionKind, "SESSION_KIND_", w) for w in words.kinds],
        owner=words.owner,
        device_id=words.device,
        model_id=words.model,
        tags=words.tags,
    )
    if words.priority:
        result.priority = choose(session_pb2.Priority, "PRIORITY_", words.priority, PRIORITIES)
    return result
