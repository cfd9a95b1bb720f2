"""Policies to test with, on a disk in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from domains.clients import Caller, Role
from domains.postprocessing.safety.core.store import PolicyStore
from domains.postprocessing.safety.servicer import SafetyParts
from domains.safety import SafetyAction, SafetyPolicy, SafetyRule
from tests.domains.processing.workflows.disk import Memory

MARY, JOHN = Caller("mary", Role.RUN), Caller("john", Role.RUN)
ADMIN = Caller("boss", Role.ADMIN)
NOW = datetime(2026, 11, 29, tzinfo=UTC)
STRICT = SafetyPolicy("strict", rules=(SafetyRule("nsfw", 0.5, SafetyAction.BLOCK),))


@dataclass
class Disk:
    """What outlives a store, and who uses which policy."""

    versions: Memory = field(default_factory=Memory)
    default: Memory = field(default_factory=Memory)
    users: dict[str, str] = field(default_factory=dict)


def store_of(disk: Disk) -> PolicyStore:
    """The store of a server that has just started."""
    users = disk.users
    made = PolicyStore(disk.versions, disk.default, lambda key: users.get(key, ""), lambda: NOW)
    made.recall()
    return made


def parts_of(disk: Disk) -> SafetyParts:
    """What answers calls about policies; those need no sessions."""
    no_sessions: Any = None
    return SafetyParts(
        store_of(disk), no_sessions, no_sessions, no_sessions, lambda session_id, verdict: None
    )
