"""Work over the worker link, every number and text as it was."""

from __future__ import annotations

from pathlib import Path

from deviceops.v1 import common_pb2, inference_pb2
from deviceops.worker.v1 import worker_pb2
from domains.device.types import OptimizationWork, ReleaseWork, SelfTestWork
from domains.inference.types import (
    GenerationWork,
    OutputSettings,
    PreviewSettings,
    SchedulerSettings,
)
from server.worker.frames import ProtocolError, Work
from server.worker.message_checks import known
from server.worker.message_enums import (
    FORMATS,
    PRECISIONS,
    PROFILES,
    SCHEDULERS,
    spacing_from_proto,
    spacing_to_proto,
)


def fill_work(message: worker_pb2.Run, work: Work) -> None:
    """Put work into the order that begins a run."""
    match work:
        case GenerationWork():
            message.generation.CopyFrom(_generation_to_proto(work))
        case SelfTestWork():
            message.self_test.SetInParent()
        case OptimizationWork(profile, model_id, model_path):
            message.optimization.profile = PROFILES.to_proto(profile)
            message.optimization.model_id = model_id
            message.optimization.model_path = str(model_path)
        case ReleaseWork(model_ids, reload):
            message.release.model_ids.extend(model_ids)
            message.release.reload = reload
            message.release.SetInParent()


def work_from_proto(message: worker_pb2.Run) -> Work:
    """The work in the order that begins a run.

    Raises:
        ProtocolError: There is none, or an enum holds a number that means nothing here.
    """
    match message.WhichOneof("work"):
        case "generation":
            return _generation_from_proto(message.generation)
        case "self_test":
            return SelfTestWork()
        case "optimization":
            asked = message.optimization
            profile = known(PROFILES, asked.profile, "profile")
            return OptimizationWork(profile, asked.model_id, Path(asked.model_path))
        case "release":
            return ReleaseWork(tuple(message.release.model_ids), message.release.reload)
        case _:
            raise ProtocolError("a run without work")


def _generation_to_proto(work: GenerationWork) -> worker_pb2.GenerationWork:
    return worker_pb2.GenerationWork(
        model_id=work.model_id,
        model_path=str(work.model_path),
        prompt=work.prompt,
        negative_prompt=work.negative_prompt,
        prompt_2=work.prompt_2,
        negative_prompt_2=work.negative_prompt_2,
        width=work.width,
        height=work.height,
        steps=work.steps,
        guidance_scale=work.guidance_scale,
        guidance_rescale=work.guidance_rescale,
        clip_skip=work.clip_skip,
        scheduler=SCHEDULERS.to_proto(work.scheduler.scheduler),
        spacing=spacing_to_proto(work.scheduler.spacing),
        eta=work.scheduler.eta,
        seeds=work.seeds,
        precision=PRECISIONS.to_proto(work.precision),
        preview=inference_pb2.PreviewSettings(
            every_steps=work.preview.every_steps, max_edge_pixels=work.preview.max_edge
        ),
        output=common_pb2.OutputSettings(
            format=FORMATS.to_proto(work.output.format),
            quality=work.output.quality,
            lossless=work.output.lossless,
            omit_parameters=not work.output.embed_parameters,
        ),
    )


def _generation_from_proto(message: worker_pb2.GenerationWork) -> GenerationWork:
    try:
        spacing = spacing_from_proto(message.spacing)
    except (KeyError, ValueError) as error:
        raise ProtocolError("spacing holds an unknown number") from error
    output = message.output
    return GenerationWork(
        model_id=message.model_id,
        model_path=Path(message.model_path),
        prompt=message.prompt,
        negative_prompt=message.negative_prompt,
        prompt_2=message.prompt_2 if message.HasField("prompt_2") else None,
        negative_prompt_2=message.negative_prompt_2
        if message.HasField("negative_prompt_2")
        else None,
        width=message.width,
        height=message.height,
        steps=message.steps,
        guidance_scale=message.guidance_scale,
        guidance_rescale=message.guidance_rescale,
        clip_skip=message.clip_skip,
        scheduler=SchedulerSettings(
            known(SCHEDULERS, message.scheduler, "scheduler"), spacing, message.eta
        ),
        seeds=tuple(message.seeds),
        precision=known(PRECISIONS, message.precision, "precision"),
        preview=PreviewSettings(message.preview.every_steps, message.preview.max_edge_pixels),
        output=OutputSettings(
            known(FORMATS, output.format, "format"),
            output.quality,
            output.lossless,
            embed_parameters=not output.omit_parameters,
        ),
    )
