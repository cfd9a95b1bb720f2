"""Looking through the roots on request."""

from __future__ import annotations

from functools import partial

from domains.model.core.contents import CatalogueContents
from domains.model.errors import InvalidTask
from domains.model.views import RefreshRequest
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.types import Outcome, Phase, PhaseStarted, SessionKind

_QUEUE = "model folders"


class Refreshes:
    """Looks through the roots as sessions, one at a time, whatever devices do.

    Args:
        contents: The models.
    """

    def __init__(self, contents: CatalogueContents) -> None:
        self._contents = contents

    def refresh(self, request: RefreshRequest) -> SessionRequest:
        """The look as a session, which reports a `RefreshReport`.

        What lies there when the session's turn comes is found. A look that is cancelled goes
        on beside, and what it finds is taken up.

        Preparing it raises:
            InvalidTask: The options break rules.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def _prepare(self, request: RefreshRequest) -> SessionPlan:
        InvalidTask.check(*check_options(request.options, "options"))
        return SessionPlan(
            kind=SessionKind.MODEL_TASK,
            device_id="",
            expected_phases=(Phase.QUEUED, Phase.READING),
            work=partial(self._run, request.full),
            queue=_QUEUE,
        )

    async def _run(self, full: bool, session: Session) -> Outcome:
        session.record(PhaseStarted(Phase.READING))
        return Outcome(report=await self._contents.refresh(full=full))
