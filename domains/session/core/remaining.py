"""How much work of a session lies ahead, from how long comparable work took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from domains.session.core.session import Session
from domains.session.core.speeds import Speeds
from domains.session.types import Phase, SessionState

_LOADING = frozenset({Phase.STARTING_WORKER, Phase.READING, Phase.LOADING_MODEL})
_STEPS = frozenset({Phase.DENOISING, Phase.REFINING, Phase.SECOND_PASS})


@dataclass(frozen=True)
class Ahead:
    """Seconds of work ahead.

    The next turn, or what is left of this one, begins with `load` for a model that is not on
    the device and with `begin`; every later one with `again`.
    """

    rest: float
    load: float = 0.0
    begin: float = 0.0
    again: float = 0.0

    @property
    def lead(self) -> float:
        """Before anything of the rest is worked on."""
        return self.load + self.begin

    def loaded(self) -> Ahead:
        """The same, were the model on the device."""
        return replace(self, load=0.0)

    def after(self, worked: float) -> Ahead:
        """What lies ahead after a turn, with so much of the rest worked on."""
        return Ahead(self.rest - worked, begin=self.again, again=self.again)


class Remaining:
    """Tells what lies ahead of sessions.

    Of steps it is what is not done or was not kept when work last stopped; of what is done for
    each picture, that of pictures that are not finished; of other work what it has not told of.
    Texts are encoded again in each turn.

    Args:
        speeds: How long work took.
        holds: Whether a device's worker holds a model.
    """

    def __init__(self, speeds: Speeds, holds: Callable[[str, str], bool]) -> None:
        self._speeds = speeds
        self._holds = holds

    def of(self, session: Session) -> Ahead | None:
        """What lies ahead of it, now where it runs, else from its next turn on; one that is
        to yield has to begin another turn. None while nothing comparable is known."""
        if session.state in (SessionState.PAUSING, SessionState.CANCELLING):
            return Ahead(0.0)  # it stops at once
        effort = session.effort
        if effort is None:
            return None
        seconds = self._speeds.phase_seconds(session.device_id, effort)
        load = self._load(session.device_id, effort.model_id)
        if seconds is None or load is None:
            return None
        done, texts = session.done, seconds.get(Phase.ENCODING_TEXT, 0.0)
        # Of a batch each turn encodes those of the item at work again.
        text = texts / max(effort.amounts.get(Phase.ENCODING_TEXT, 1.0), 1.0)
        seconds = {**seconds, Phase.ENCODING_TEXT: texts - text}
        rest = sum(
            took * (1.0 - (done.steps_share if phase in _STEPS else done.images_share))
            for phase, took in seconds.items()
        )
        runs = session.state is SessionState.RUNNING and session.yielding is None
        ahead = Ahead(rest, load, text, text)
        return _from_now(session, ahead) if runs else ahead

    def _load(self, device_id: str, model_id: str) -> float | None:
        if not model_id or self._holds(device_id, model_id):
            return 0.0
        return self._speeds.load_seconds(device_id, model_id)


def _from_now(session: Session, ahead: Ahead) -> Ahead:
    """Of a session that runs: without what this turn has behind it."""
    since, phase = session.times.since_sign, session.phase
    if phase in _LOADING:
        return replace(ahead, load=max(ahead.load - since, 0.0))
    if phase is Phase.ENCODING_TEXT:
        return replace(ahead, load=0.0, begin=max(ahead.begin - since, 0.0))
    rest = ahead.rest
    if phase is None:  # it tells no phases, or none yet
        rest, since = rest + ahead.lead, session.times.this_spell
    return Ahead(max(rest - since, 0.0), again=ahead.again)
