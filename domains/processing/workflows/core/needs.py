"""What a run of a workflow takes: models, memory, time and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domains.processing.workflows.types import Graph, StepForecast
from domains.values import ByteFigure

_MOST_MODELS = 64


@dataclass(frozen=True)
class Needs:
    """`peak` is that of the largest step, `seconds` of all one after another; None where nobody
    knows."""

    model_ids: tuple[str, ...]
    peak: ByteFigure | None
    seconds: float | None
    image_count: int


def needs_of(forecasts: Mapping[str, StepForecast]) -> Needs:
    """What all steps together need, out of what each is expected to take."""
    all_ = tuple(forecasts.values())
    models = dict.fromkeys(name for each in all_ for name in each.model_ids)
    memory = [each.memory for each in all_ if each.memory is not None]
    timed = [each for each in all_ if each.image_count]
    seconds = [each.seconds * each.runs for each in timed if each.seconds is not None]
    return Needs(
        tuple(models)[:_MOST_MODELS],
        max(memory, key=lambda figure: figure.value or 0, default=None),
        sum(seconds) if timed and len(seconds) == len(timed) else None,
        sum(each.image_count * each.runs for each in all_),
    )


def costs_of(graph: Graph, forecasts: Mapping[str, StepForecast]) -> Mapping[str, float]:
    """How much there is to do in each step: seconds, where those of all generations are known;
    else pictures, and a hundredth of one for what makes none."""
    timed = [each for each in forecasts.values() if each.image_count]
    by_time = all(each.seconds is not None for each in timed)
    costs = {}
    for step in graph.steps:
        forecast = forecasts.get(step.step_id)
        drawn = forecast is not None and forecast.image_count > 0
        if forecast is None or not drawn:
            costs[step.step_id] = 1.0 if step.work in ("generate", "batch") else 0.01
        elif by_time:
            costs[step.step_id] = (forecast.seconds or 0.0) * forecast.runs
        else:
            costs[step.step_id] = float(forecast.image_count * forecast.runs)
    return costs
