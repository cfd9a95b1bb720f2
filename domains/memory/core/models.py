"""Models that may give way: which, in which order, and letting one go."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from domains.memory.ports import ModelMemory
from domains.memory.types import HeldComponent


@dataclass(frozen=True)
class IdleModel:
    """A model on a device that no work uses; `size_bytes` is what is known of its size."""

    device_id: str
    model_id: str
    size_bytes: int
    last_use_time: datetime


def idle_models(held: Iterable[HeldComponent], device_id: str) -> list[IdleModel]:
    """Models of a device of which no component is used, least recently used first."""
    parts: dict[str, list[HeldComponent]] = defaultdict(list)
    for one in held:
        if one.device_id == device_id:
            parts[one.component.model_id].append(one)
    models = [
        IdleModel(
            device_id,
            model_id,
            sum(one.component.size.value or 0 for one in components),
            max(one.component.last_use_time for one in components),
        )
        for model_id, components in parts.items()
        if all(one.idle for one in components)
    ]
    return sorted(models, key=lambda model: model.last_use_time)


async def release(models: ModelMemory, model: IdleModel, *, remaining: float) -> None:
    """Let a model go; the memory is free when this returns.

    Raises:
        Unavailable: The worker is lost or there is none.
        DeadlineExceeded: It could not begin within `remaining` seconds.
    """
    events = models.release(
        model.device_id, str(uuid.uuid4()), (model.model_id,), remaining=remaining
    )
    async with aclosing(events):
        async for _ in events:
            pass
