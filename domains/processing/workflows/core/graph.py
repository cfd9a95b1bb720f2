"""The order of steps, and what has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from domains.processing.workflows.types import Step


def sorter(steps: Sequence[Step]) -> TopologicalSorter[str]:
    """Gives steps by their ids as those before them are done; needs that name no step of these
    are left out.

    Raises:
        CycleError: They have no order.
    """
    made = _sorter({step.step_id: step.needs for step in steps})
    made.prepare()
    return made


def order(steps: Sequence[Step]) -> tuple[str, ...]:
    """The ids of steps in an order they can run in, those of the workflow first where several
    can.

    Raises:
        CycleError: There is none.
    """
    places = {step.step_id: place for place, step in enumerate(steps)}
    ready, found = sorter(steps), []
    while ready.is_active():
        batch = sorted(ready.get_ready(), key=places.__getitem__)
        found += batch
        ready.done(*batch)
    return tuple(found)


def cycles(steps: Sequence[Step]) -> Iterator[tuple[str, ...]]:
    """Steps that wait for each other in a ring, each ring once, in the order of the waiting."""
    needs = {step.step_id: set(step.needs) for step in steps}
    while True:
        try:
            _sorter(needs).prepare()
            return
        except CycleError as error:
            # Each is needed by the one after it; here each needs the one after it.
            ring = [*dict.fromkeys(error.args[1])][::-1]
            first = min(range(len(ring)), key=lambda place: list(needs).index(ring[place]))
            yield (*ring[first:], *ring[:first])
            for name in ring:  # what is left is looked at without it
                needs[name] -= set(ring)


def _sorter(needs: dict[str, set[str]] | dict[str, frozenset[str]]) -> TopologicalSorter[str]:
    return TopologicalSorter(
        {name: [each for each in named if each in needs] for name, named in needs.items()}
    )
