"""Counts and times of generations for people."""

from __future__ import annotations

import typer

from deviceops.v1 import common_pb2, inference_pb2
from server.cli.output import details, table
from server.cli.wording import duration, moment

_MODELS = ("device", "model", "completed", "failed", "cancelled", "pictures", "step", "since")
_SIZES = ("pictures asked for", "completed", "failed", "cancelled", "half done within", "step")
_TIMES = ("time", "times", "in all", "half within", "99 of 100 within")
# Fields of the message, and what people call them.
_NAMES = {
    "queue": "waiting",
    "work": "one session's work",
    "load": "loading",
    "encode_text": "encoding prompts",
    "prepare_input": "preparing pictures",
    "step": "one step",
    "decode": "decoding a picture",
    "encode_image": "encoding a picture",
    "cancel": "stopping when cancelled",
}


def show(found: inference_pb2.GetInferenceStatisticsResponse) -> None:
    """The sums, a row for each model on a device, for each number of pictures that were asked
    for at once, and for each time that was measured."""
    if not found.by_model:
        typer.echo("No generation has ended yet.", err=True)
        return
    details(
        [
            ("since", moment(found.since_time)),
            ("completed", str(found.completed_count)),
            ("failed", str(found.failed_count)),
            ("cancelled", str(found.cancelled_count)),
            ("pictures", str(found.image_count)),
            ("prompts used again", str(found.text_cache_hits)),
        ]
    )
    table(_MODELS, [_model_row(one) for one in found.by_model])
    table(_SIZES, [_size_row(one) for one in found.by_batch_size])
    table(
        _TIMES,
        [
            _time_row(name, getattr(found, field))
            for field, name in _NAMES.items()
            if getattr(found, field).count
        ],
    )


def _model_row(one: inference_pb2.InferenceStatistics) -> tuple[str, ...]:
    counts = (one.completed_count, one.failed_count, one.cancelled_count, one.image_count)
    step = _time(one.step.p50_ms) if one.HasField("step") else ""
    return one.device_id, one.model_id, *map(str, counts), step, moment(one.since_time)


def _size_row(one: inference_pb2.BatchSizeStatistics) -> tuple[str, ...]:
    counts = (one.asked_image_count, one.completed_count, one.failed_count, one.cancelled_count)
    work = _time(one.work.p50_ms) if one.HasField("work") else ""
    step = _time(one.step.p50_ms) if one.HasField("step") else ""
    return *map(str, counts), work, step


def _time_row(name: str, times: common_pb2.DurationStatistics) -> tuple[str, ...]:
    ends = (times.total_ms, times.p50_ms, times.p99_ms)
    return name, str(times.count), *map(_time, ends)


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 1_000 else duration(milliseconds / 1_000)
