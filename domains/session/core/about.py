"""What is fixed about a session when it is accepted."""

from __future__ import annotations

from dataclasses import dataclass

from domains.at_work import AtWork
from domains.session.types import SessionKind
from domains.session.types.named import NOTHING_NAMED, Names
from domains.values import ModelContent


@dataclass(frozen=True)
class Parent:
    """The session whose step or item another one is, and the name of that step or item."""

    session_id: str = ""
    item_id: str = ""


ALONE = Parent()
"""Of a session that is nobody's."""


@dataclass(frozen=True)
class About:
    """What never changes about a session.

    `owner` is whose work it is. `model_id` is the main model, `companion_ids` are those it
    uses beside it, `policies` the keys of the safety policies that it goes by. `method` is that
    of the contract that started it, or its parent ("InferenceService.Generate"). `pauses` is
    whether its work can stop and go on later, `repeats` whether it can be begun anew where a
    worker or the server was lost. `named` is what its request names of what the server keeps,
    as far as it has not been come to. `contents` are those of models that it was accepted for.
    """

    session_id: str
    kind: SessionKind
    owner: str
    model_id: str = ""
    companion_ids: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    parent: Parent = ALONE
    method: str = ""
    pauses: bool = False
    repeats: bool = False
    named: Names = NOTHING_NAMED
    contents: tuple[ModelContent, ...] = ()

    @property
    def at_work(self) -> AtWork:
        """What lines of the log say of it while it has its turn."""
        return AtWork(self.session_id, self.owner)
