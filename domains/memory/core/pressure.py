"""How tight memory is: levels with hysteresis, from used shares alone."""

from __future__ import annotations

from collections.abc import Sequence

from domains.memory.types import PressureLevel, PressureReaction, Threshold

_EVICT, _UNLOAD, _REFUSE, _REFUSE_WORK = (
    PressureReaction.EVICT_CACHED,
    PressureReaction.UNLOAD_IDLE,
    PressureReaction.REFUSE_ALLOCATIONS,
    PressureReaction.REFUSE_WORK,
)
_REACTIONS = {
    PressureLevel.NORMAL: (),
    PressureLevel.ELEVATED: (_EVICT, _UNLOAD),
    PressureLevel.HIGH: (_EVICT, _UNLOAD, _REFUSE),
    PressureLevel.CRITICAL: (_EVICT, _UNLOAD, _REFUSE, _REFUSE_WORK),
}


def thresholds(
    elevated: float, high: float, critical: float, hysteresis: float
) -> tuple[Threshold, ...]:
    """The levels in order; each begins at its share and ends `hysteresis` below it.

    NORMAL begins at 0 and ends below 0: it is always there underneath.
    """
    begins = {
        PressureLevel.NORMAL: 0.0,
        PressureLevel.ELEVATED: elevated,
        PressureLevel.HIGH: high,
        PressureLevel.CRITICAL: critical,
    }
    return tuple(
        Threshold(level, enter, round(max(0.0, enter - hysteresis), 6), _REACTIONS[level])
        for level, enter in begins.items()
    )


def next_level(level: PressureLevel, share: float, table: Sequence[Threshold]) -> PressureLevel:
    """The level after `level` when `share` of the memory is used.

    It rises to the highest level whose share is reached; it falls only past levels whose
    lower share is undercut, so that a share that trembles around a threshold changes
    nothing.
    """
    by_level = {threshold.level: threshold for threshold in table}
    reached = PressureLevel(max(t.level.value for t in table if share >= t.enter))
    if reached.value > level.value:
        return reached
    while level is not PressureLevel.NORMAL and share < by_level[level].leave:
        level = PressureLevel(level.value - 1)
    return level
