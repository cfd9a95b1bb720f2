"""Telling the sessions of a queue how many are before each, and when it may begin and end."""

from __future__ import annotations

from collections.abc import Sequence

from domains.session.core.outlook import Task, foresee
from domains.session.core.places import Place
from domains.session.core.remaining import Remaining
from domains.session.core.yielding import YieldRule
from domains.session.types import SessionState


class Foresight:
    """Looks ahead through a whole queue.

    Args:
        remaining: How much work of a session lies ahead.
        rule: When what runs lets others go first.
        slice_seconds: How long a session works while another client's waits.
    """

    def __init__(self, remaining: Remaining, rule: YieldRule, slice_seconds: float) -> None:
        self._remaining, self._rule = remaining, rule
        self._slice_seconds = slice_seconds

    def tell(
        self, running: Place | None, levels: Sequence[tuple[int, Sequence[Place]]]
    ) -> None:
        """Tell each session how many are before it, and when it may begin and end.

        Args:
            running: Has its turn, if any has.
            levels: By urgency, those that wait, and what runs where it is to yield, next first.
        """
        order = [place for _, level in levels for place in level]
        stays = running is not None and running not in order
        waiting = [place for place in order if place is not running]
        tasks: dict[Place, Task] = {}
        loaded: set[str] = set()
        for place in ([running] if running is not None and stays else []) + order:
            tasks[place] = self._task(place, loaded, waiting if place is running else None)
        foresee(
            tasks[running] if running is not None and stays else None,
            0 if running is None else running.session.options.priority.value,
            [(rank, [tasks[place] for place in level]) for rank, level in levels],
            self._slice_seconds,
        )
        for position, place in enumerate(order):
            task = tasks[place]
            if place is not running:
                work = None if task.end is None else task.end - (task.begin or 0.0)
                position += stays
                place.session.move_in_queue(position, wait=task.begin, work=work)
        if running is not None:
            goes_on = running.session.state is not SessionState.PAUSING
            running.session.expect_end(tasks[running].end if goes_on else None)

    def _task(self, place: Place, loaded: set[str], waiting: Sequence[Place] | None) -> Task:
        """Its work; models that are loaded for another one before it need not be again.
        `waiting` are those that wait for what runs."""
        session, left = place.session, self._remaining.of(place.session)
        model_id = session.effort.model_id if session.effort else ""
        if left is not None and model_id in loaded:
            left = left.loaded()
        loaded.add(model_id)
        worked = place.slice_seconds + (session.slice_seconds or 0.0)
        if session.yielding is not None and not place.interrupted:
            worked = 0.0  # the next turn is a whole one
        yields = session.about.pauses
        if waiting is not None:
            yields = self._rule.may_yield(place, waiting)
        return Task(session.owner, left, yields, max(self._slice_seconds - worked, 0.0))
