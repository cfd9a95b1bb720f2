"""What a run of several clients is on paper: every call's answer and every event, in the order
in which they were seen. Plain values, so that a history can be made by hand and be read again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True)
class Submitted:
    """A client sends work; `request_id` stands for one request for ever. A lower `priority`
    comes first. `at` is the wall clock in seconds, here and below."""

    at: float
    client: str
    request_id: str
    priority: int = 2


@dataclass(frozen=True)
class Acknowledged:
    """The client heard that its work was accepted."""

    at: float
    client: str
    request_id: str
    session_id: str
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Opened:
    """A stream begins; `start` is the number that was asked for, 1 for everything."""

    at: float
    stream: int
    session_id: str
    start: int


@dataclass(frozen=True)
class Entry:
    """A numbered event came on a stream. `content` is all that it says; `image` names the
    picture that it is about by its item and number, as "item/0", or "/0" without items."""

    at: float
    stream: int
    session_id: str
    sequence: int
    kind: str
    content: str = ""
    image: str = ""
    artifact_id: str = ""


@dataclass(frozen=True)
class Expired:
    """A stream from `start` was refused: events are kept from `first` on."""

    at: float
    stream: int
    start: int
    first: int


@dataclass(frozen=True)
class Stood:
    """How a session stood when somebody asked; `images` are artifact ids by name."""

    at: float
    session_id: str
    state: str
    images: tuple[tuple[str, str], ...] = ()
    begun: float | None = None
    retries: int = 0


@dataclass(frozen=True)
class Listed:
    """All of a client's sessions, asked for at `at` in one page."""

    at: float
    client: str
    session_ids: tuple[str, ...]


@dataclass(frozen=True)
class Cancelled:
    """A cancellation was confirmed."""

    at: float
    session_id: str


@dataclass(frozen=True)
class Downloaded:
    """An artifact was read whole; empty `sha256`: it was not to be had, for this `reason`."""

    at: float
    artifact_id: str
    sha256: str
    reason: str = ""


@dataclass(frozen=True)
class Killed:
    """A process was killed."""

    at: float
    what: str


Record: TypeAlias = (
    Submitted
    | Acknowledged
    | Opened
    | Entry
    | Expired
    | Stood
    | Listed
    | Cancelled
    | Downloaded
    | Killed
)
KINDS: dict[str, type[Record]] = {
    kind.__name__: kind
    for kind in (
        Submitted,
        Acknowledged,
        Opened,
        Entry,
        Expired,
        Stood,
        Listed,
        Cancelled,
        Downloaded,
        Killed,
    )
}


def save(history: list[Record], path: Path) -> None:
    """A line of JSON for each record."""
    lines = (json.dumps({"record": type(each).__name__, **asdict(each)}) for each in history)
    path.write_text("\n".join(lines) + "\n")


def load(path: Path) -> list[Record]:
    """What `save` wrote."""
    return [_record(json.loads(line)) for line in path.read_text().splitlines()]


def _record(fields: dict[str, object]) -> Record:
    kind = KINDS[str(fields.pop("record"))]
    return kind(**{name: _frozen(value) for name, value in fields.items()})  # type: ignore[arg-type]


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
