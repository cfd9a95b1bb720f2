"""When the sessions of a device begin and end, if they work on as they are expected to."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from domains.session.core.remaining import Ahead


@dataclass(eq=False)
class Task:
    """A session's work; `begin` and `end` are found, in seconds from now, None where nobody
    knows.

    `ahead` is what lies ahead of it, None where nobody knows. One that `yields` lets other
    clients' work go on after `slice_seconds` in its first turn.
    """

    owner: str
    ahead: Ahead | None
    yields: bool
    slice_seconds: float
    begin: float | None = None
    end: float | None = None

    def work(self, now: float, seconds: float) -> float | None:
        """A turn of at most so many seconds that lasts from `now` until what this returns;
        None where its end is not known."""
        if self.begin is None:
            self.begin = now
        if self.ahead is None:
            return None
        worked = min(self.ahead.rest, seconds)
        now += self.ahead.lead + worked
        self.ahead = self.ahead.after(worked)
        if self.ahead.rest <= 0.0:
            self.end = now
        return now


def foresee(
    running: Task | None,
    rank: int,
    levels: Sequence[tuple[int, Sequence[Task]]],
    slice_seconds: float,
) -> None:
    """Find when each begins and ends, were nothing to come.

    Args:
        running: Works now, if anything does; for its `slice_seconds`, then with those of its
            rank.
        rank: Its rank.
        levels: By rank, the first first, what waits, next first; at each rank clients take
            turns of a slice.
        slice_seconds: How long a turn is while others wait.
    """
    now: float | None = 0.0
    waiting = [(each, list(tasks)) for each, tasks in levels]
    if running is not None:
        now = running.work(0.0, running.slice_seconds if running.yields else math.inf)
        if running.end is None:
            running.slice_seconds = slice_seconds
            waiting = _put_back(running, rank, waiting)
    for _, tasks in waiting:
        if now is None:
            return
        now = _turns(tasks, now, slice_seconds)


def _put_back(
    running: Task, rank: int, waiting: list[tuple[int, list[Task]]]
) -> list[tuple[int, list[Task]]]:
    """What waits, with the rest of what runs: before its client's others, behind the first of
    every other client."""
    same = [task for each, tasks in waiting if each == rank for task in tasks]
    owner = running.owner
    own = [running, *(task for task in same if task.owner == owner)]
    others = [task for task in same if task.owner != owner]
    rest = [level for level in waiting if level[0] != rank]
    return sorted([*rest, (rank, others + own)], key=lambda level: level[0])


def _turns(tasks: Sequence[Task], now: float, slice_seconds: float) -> float | None:
    """Clients take turns, each with its sessions one after another."""
    clients: dict[str, deque[Task]] = {}
    for task in tasks:
        clients.setdefault(task.owner, deque()).append(task)
    rotation = list(clients.values())
    while rotation:
        now += _whole_rounds([each[0] for each in rotation], slice_seconds)
        for own in rotation:
            task, alone = own[0], sum(map(bool, rotation)) == 1
            whole = alone or not task.yields
            after = task.work(now, math.inf if whole else task.slice_seconds)
            if after is None:
                return None
            now, task.slice_seconds = after, slice_seconds
            if task.end is not None:
                own.popleft()
        rotation = [own for own in rotation if own]
    return now


def _whole_rounds(tasks: Sequence[Task], slice_seconds: float) -> float:
    """Rounds in which each works a slice and none ends are counted at once; returns how long
    they take."""
    if len(tasks) == 1:
        return 0.0
    left = [
        task.ahead.rest if task.begin is not None and task.yields and task.ahead else 0.0
        for task in tasks
    ]
    rounds = int(min(left) / slice_seconds) - 1
    if rounds < 1:
        return 0.0
    took = 0.0
    for task in tasks:
        assert task.ahead is not None
        took += rounds * (task.ahead.lead + slice_seconds)
        task.ahead = task.ahead.after(rounds * slice_seconds)
    return took
