"""Which jobs' pictures may share passes through one denoiser, and what each job comes to."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from functools import reduce
from typing import TypeVar

from msgspec.structs import astuple, replace

from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration, Timings
from domains.inference.types import Computation
from domains.values import Degradation

MOST_TOGETHER = 8
"""Pictures under way at once. With guidance a pass of so many has a batch of 16, from which on
devices gain next to nothing more."""

Item = TypeVar("Item")


def sharing_key(job: GenerationJob) -> Hashable | None:
    """What has to be equal for two jobs' pictures to share passes; None: it shares with none.

    All that changes the networks while a picture is drawn is in it. Prompts, seeds, sizes,
    steps, samplers, guidance and pictures to start from are each picture's own. A job with a
    refiner shares with none: its model may have to give way in the middle of it. Nor does one
    with image prompts, whose tokens are as many as its pictures.
    """
    settings = job.settings
    if settings.refiner is not None or settings.image_prompts:
        return None
    return (
        settings.model_id,
        job.place,
        settings.precision,
        tuple(astuple(each) for each in settings.loras),
        settings.vae_model_id,
        settings.vae_tiling,
        tuple(each.model_id for each in settings.control_nets),
        settings.seamless_horizontally,
        settings.seamless_vertically,
    )


def in_groups(jobs: Sequence[GenerationJob]) -> list[list[int]]:
    """The positions of jobs that may share, together, in the order of their firsts."""
    groups: dict[Hashable, list[int]] = {}
    for position, job in enumerate(jobs):
        key = sharing_key(job)
        groups.setdefault(("alone", position) if key is None else key, []).append(position)
    return list(groups.values())


def one_by_one(job: GenerationJob, finished: frozenset[int]) -> list[GenerationJob]:
    """A job for each picture that is not out yet, which has its number in `job` and begins with
    its first step."""
    return [
        replace(
            job,
            settings=replace(job.settings, seeds=job.settings.seeds[: index + 1]),
            first_image=index,
            paused_file=None,
            kept_steps=0,
        )
        for index in range(job.image_count)
        if index not in finished
    ]


def merged(
    reports: Sequence[GenerationReport | PausedGeneration],
) -> GenerationReport | PausedGeneration:
    """What a job has come to by what each of its pictures has; paused if one is.

    Args:
        reports: At least one.
    """
    timings = reduce(Timings.__add__, (each.timings for each in reports))
    computed = reduce(Computation.__or__, (each.computed for each in reports))
    degradations = _each_once(one for each in reports for one in each.degradations)
    data_types = _each_once(one for each in reports for one in each.data_types)
    whole = [each for each in reports if isinstance(each, GenerationReport)]
    if len(whole) < len(reports):
        return PausedGeneration(timings, degradations, data_types, computed)
    return replace(
        whole[0],
        timings=timings,
        computed=computed,
        degradations=degradations,
        data_types=data_types,
    )


def told(
    report: GenerationReport | PausedGeneration, more: Iterable[Degradation]
) -> GenerationReport | PausedGeneration:
    """The report with further degradations."""
    return replace(report, degradations=_each_once((*report.degradations, *more)))


def _each_once(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(dict.fromkeys(items))
