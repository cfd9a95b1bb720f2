"""Which content of models work was accepted for, and whether it is still that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from domains.session.core.session import Session
from domains.session.ports import ModelContents
from domains.session.types import SessionKind
from domains.values import ModelContent

_DRAWN = (SessionKind.GENERATION, SessionKind.GENERATION_BATCH, SessionKind.POSTPROCESSING)
"""Kinds whose pictures depend on it; others are about the model that is there."""


class AcceptedContents:
    """Notes it when work is accepted, and looks again at each of its turns.

    Args:
        models: What they are made of; asked for once the system runs. Without it, nothing is
            noted.
    """

    def __init__(self, models: Callable[[], ModelContents] | None) -> None:
        self._models = models

    async def of(self, model_ids: Iterable[str]) -> tuple[ModelContent, ...]:
        """What these models are made of now."""
        return () if self._models is None else await self._models().of(model_ids)

    async def note(self, session: Session) -> None:
        """It is being accepted. What its request says already stands: that was accepted before,
        with what it is a part of."""
        about = session.about
        if session.kind not in _DRAWN:
            return
        noted = {content.model_id for content in about.contents}
        ids = dict.fromkeys((about.model_id, *about.companion_ids))
        left = [each for each in ids if each and each not in noted]
        if left:
            found = await self.of(left)
            session.about = replace(session.about, contents=(*about.contents, *found))

    async def check(self, session: Session) -> None:
        """Its work is about to begin or to go on.

        Raises:
            DomainError: A model of it was replaced since it was accepted.
        """
        contents = session.about.contents
        if contents and self._models is not None:
            await self._models().check(contents, lambda: session.cancel_reason is not None)
