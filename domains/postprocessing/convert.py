"""Postprocessing between proto and domain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.message import Message

from deviceops.v1 import common_pb2, finishing_pb2, generation_pb2, postprocessing_pb2
from domains.chain.convert import chain_from_proto
from domains.chain.core.statistics import StepSums
from domains.chain.jobs import PictureQuality
from domains.conversions import (
    EnumMap,
    byte_figure,
    digest,
    duration_statistics,
    given,
    limit_to_proto,
    timestamp,
    wished,
)
from domains.device.convert import placement_from_proto
from domains.picture.convert import image_from_proto
from domains.postprocessing.core.benchmarks import StepBenchmarkRequest
from domains.postprocessing.core.processing import AskedPicture, ProcessingRequest
from domains.postprocessing.types import (
    Postprocessor,
    PostprocessorBenchmark,
    PostprocessorKind,
)
from domains.provenance.convert import output_from_proto
from domains.session.convert import Reports, delivery_from_proto, options_from_proto
from domains.session.core.durations import Durations

KINDS = EnumMap(PostprocessorKind, postprocessing_pb2.PostprocessorKind, "POSTPROCESSOR_KIND_")
_PRECISION = ("data_types", "attention_slicing", "vae_tiling", "vae_slicing", "cpu_offload")
"""What of each message nothing is done with; the mode is, where it says EXACT."""


def postprocessor_to_proto(entry: Postprocessor) -> postprocessing_pb2.Postprocessor:
    """What can be applied."""
    return postprocessing_pb2.Postprocessor(
        postprocessor_id=entry.postprocessor_id,
        kind=KINDS.to_proto(entry.kind),
        description=entry.description,
        ready=entry.ready,
        explanation=entry.explanation,
        model_id=entry.model_id,
        factors=entry.factors,
        limits=map(limit_to_proto, entry.limits),
        architecture=entry.architecture,
        benchmarks=map(benchmark_to_proto, entry.benchmarks),
    )


def benchmark_to_proto(found: PostprocessorBenchmark) -> finishing_pb2.PostprocessorBenchmark:
    """Figures of a postprocessor on a device."""
    return finishing_pb2.PostprocessorBenchmark(
        postprocessor_id=found.postprocessor_id,
        device_id=found.device_id,
        run=duration_statistics(found.run),
        megapixels_per_second=found.megapixels_per_second,
        peak_memory=byte_figure(found.peak_memory),
        quality=_quality_to_proto(found.quality),
        baseline_quality=_quality_to_proto(found.baseline),
        width=found.input_width,
        height=found.input_height,
    )


def _quality_to_proto(found: PictureQuality | None) -> finishing_pb2.PictureQuality | None:
    if found is None:
        return None
    return finishing_pb2.PictureQuality(psnr_db=found.psnr_db, ssim=found.ssim)


REPORTS: Reports = {PostprocessorBenchmark: benchmark_to_proto}
"""What sessions of measuring report, as messages."""


def benchmark_from_proto(
    message: postprocessing_pb2.BenchmarkPostprocessorRequest,
) -> StepBenchmarkRequest:
    """What to measure where, unchecked."""
    return StepBenchmarkRequest(
        postprocessor_id=message.postprocessor_id,
        placement=placement_from_proto(message.placement),
        input_pixels=wished(message, "input_pixels"),
        image=wished(message, "image", image_from_proto),
        reference=wished(message, "reference", image_from_proto),
        runs=int(given(message, "runs")),
        options=options_from_proto(message.options),
        digest=digest(message),
    )


def statistics_to_proto(
    found: Iterable[StepSums],
) -> postprocessing_pb2.GetPostprocessingStatisticsResponse:
    """What steps came to."""
    return postprocessing_pb2.GetPostprocessingStatisticsResponse(
        postprocessors=[
            postprocessing_pb2.PostprocessorStatistics(
                postprocessor_id=one.postprocessor_id,
                completed=_times_to_proto(one.times),
                failed_count=one.failed,
                cancelled_count=one.cancelled,
                since_time=timestamp(one.since),
                by_device=[
                    postprocessing_pb2.PostprocessorDeviceStatistics(
                        device_id=there.device_id,
                        completed=_times_to_proto(there.times),
                        failed_count=there.failed,
                        cancelled_count=there.cancelled,
                        since_time=timestamp(there.since),
                    )
                    for there in one.by_device
                    if there.device_id
                ],
            )
            for one in found
        ]
    )


def _times_to_proto(times: Durations) -> common_pb2.DurationStatistics | None:
    return duration_statistics(times.newest, count=times.count, total=times.total)


def image_request_from_proto(
    message: postprocessing_pb2.ProcessImageRequest,
) -> ProcessingRequest:
    """One call of ProcessImage, unchecked.

    Raises:
        InvalidArgument: A step has no value here; see `chain_from_proto`.
        FeatureNotBuilt: Previews in a format that there is not.
    """
    return _request(message, (AskedPicture(image_from_proto(message.image)),), batch=False)


def images_request_from_proto(
    message: postprocessing_pb2.ProcessImagesRequest,
) -> ProcessingRequest:
    """One call of ProcessImages, likewise."""
    pictures = tuple(
        AskedPicture(image_from_proto(item.image), item.item_id) for item in message.items
    )
    return _request(message, pictures, batch=True)


def _request(
    message: postprocessing_pb2.ProcessImageRequest | postprocessing_pb2.ProcessImagesRequest,
    pictures: tuple[AskedPicture, ...],
    *,
    batch: bool,
) -> ProcessingRequest:
    return ProcessingRequest(
        pictures=pictures,
        chain=chain_from_proto(message.steps, "steps"),
        output=output_from_proto(message.output, "output"),
        options=options_from_proto(message.options),
        placement=placement_from_proto(message.placement),
        digest=digest(message),
        batch=batch,
        exact=message.precision.mode == generation_pb2.PRECISION_MODE_EXACT,
        unbuilt=(*_set(message.precision, _PRECISION, "precision"),),
        previews=delivery_from_proto(message.delivery, "delivery").previews,
    )


def _set(message: Message, names: tuple[str, ...], path: str) -> Iterator[str]:
    """Which of these fields a message sets."""
    found = {field.name for field, _ in message.ListFields()}
    return (f"{path}.{name}" for name in names if name in found)
