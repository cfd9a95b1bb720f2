"""Safety policies and checks, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from domains.chain.backends.classifiers import installed
from domains.device.ports import Place
from domains.picture import build as picture_build
from domains.postprocessing.safety.convert.checks import REPORTS, CheckRequests
from domains.postprocessing.safety.core.checking import SafetyChecks
from domains.postprocessing.safety.core.resolving import PolicyFinder
from domains.postprocessing.safety.core.store import PolicyStore
from domains.postprocessing.safety.servicer import SafetyParts
from domains.records import Records
from domains.safety import Decided
from domains.session import build as session_build
from domains.session.core.sessions import Sessions
from domains.session.jobs import JobRunner

__all__ = ["REPORTS", "Kept", "build"]


@dataclass(frozen=True)
class Kept:
    """What outlives the server: every version of every policy, and which one is the default."""

    versions: Records
    default: Records


def build(
    session: session_build.Built,
    picture: picture_build.Built,
    place: Place,
    jobs: JobRunner,
    kept: Kept,
    *,
    decided: Decided,
    now: Callable[[], datetime],
) -> SafetyParts:
    """Safety over sessions; the store is to recall what an earlier server kept.

    Args:
        session: Where checks wait, and what runs them.
        picture: Prepares what is looked at.
        place: Chooses the device for a check.
        jobs: Does it on the device's worker.
        kept: What outlives the server.
        decided: Hears of every verdict, with its session's id.
        now: The time.
    """
    store = PolicyStore(
        kept.versions, kept.default, lambda key: _user_of(session.sessions, key), now
    )
    checks = SafetyChecks(picture.pictures, place, jobs, installed, decided)
    requests = CheckRequests(store, checks, session.starters)
    requests.register()
    policies = PolicyFinder(store, installed)
    return SafetyParts(store, policies, requests, session.streams, decided)


def _user_of(sessions: Sessions, key: str) -> str:
    """The id of a session that has not ended and goes by a policy, if there is one."""
    for each in sessions.all():
        if key in each.about.policies and not each.state.final:
            return each.session_id
    return ""
