"""What workflows need from others."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from domains.errors import Failure
from domains.processing.workflows.types import Ended, Inputs, StepVerdict, Target
from domains.session.core.plan import SessionRequest
from domains.session.core.session import Session


class StepRequests(Protocol):
    """The steps of a workflow as work of the services that do it."""

    def request(self, place: int, inputs: Inputs, run: Session, name: str) -> SessionRequest:
        """A step, by its place in the workflow, as a session of a run.

        Args:
            place: The step's.
            inputs: What fills its inputs.
            run: The session of the run.
            name: The run's name for it.

        Raises:
            DomainError: As the method itself for such a request.
        """
        ...

    async def do(self, place: int, inputs: Inputs, run: Session) -> Ended:
        """A step that has no session, one of `OWN_WORKS`: done for the run's client.

        Raises:
            DomainError: As the method that does the same for a client.
        """
        ...

    def explained(self, place: int, failure: Failure) -> Failure:
        """A failure of that step, with fields named as in the workflow."""
        ...


class StepJudge(Protocol):
    """Tells of steps what their services would say, without starting anything."""

    def target(self, place: int, path: str) -> Target | str:
        """What an input of a step, by its place in the workflow, takes; in words why there is
        no such input."""
        ...

    async def judge(self, place: int, inputs: Inputs, unknown: Collection[str]) -> StepVerdict:
        """What comes of a step with these inputs.

        Args:
            place: The step's.
            inputs: What is known of them, and what stands in for the rest.
            unknown: Those that are not known yet; nothing is said about them.
        """
        ...
