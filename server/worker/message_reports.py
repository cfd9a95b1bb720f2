"""What runs come to, over the worker link."""

from __future__ import annotations

from deviceops.v1 import device_pb2
from deviceops.worker.v1 import worker_pb2
from domains.device.convert import capabilities_to_proto, optimization_to_proto
from domains.device.types import (
    Capabilities,
    DataTypeFacts,
    OptimizationChange,
    OptimizationReport,
    ReleaseReport,
    SelfTestFacts,
)
from domains.inference.types import GenerationReport, Timings
from domains.values import Degradation
from server.worker.frames import ProtocolError, Report
from server.worker.message_checks import (
    check_name,
    error_share,
    finite,
    known,
    printable,
    texts,
)
from server.worker.message_enums import DATA_TYPES, DEGRADATIONS, PROFILES
from server.worker.message_figures import (
    components_from_proto,
    components_to_proto,
    figure_from_proto,
    time_from_proto,
)

_MOST_ENTRIES = 64
_LONGEST_SENTENCE = 1000


def fill_report(message: worker_pb2.Done, report: Report) -> None:
    """Put a report into the frame that ends a run."""
    match report:
        case GenerationReport():
            message.generation.CopyFrom(_generation_to_proto(report))
        case SelfTestFacts():
            message.self_test.CopyFrom(capabilities_to_proto(Capabilities("", report)))
        case OptimizationReport():
            message.optimization.CopyFrom(_optimization_to_proto(report))
        case ReleaseReport(released, reloaded):
            message.release.released.extend(components_to_proto(released))
            message.release.reloaded.extend(components_to_proto(reloaded))
            message.release.SetInParent()


def report_from_proto(message: worker_pb2.Done) -> Report:
    """The report in the frame that ends a run.

    Raises:
        ProtocolError: It breaks a rule of the link.
    """
    match message.WhichOneof("report"):
        case "generation":
            return _generation_from_proto(message.generation)
        case "self_test":
            return _facts_from_proto(message.self_test)
        case "optimization":
            return _optimization_from_proto(message.optimization)
        case "release":
            return ReleaseReport(
                components_from_proto(message.release.released, "released"),
                components_from_proto(message.release.reloaded, "reloaded"),
            )
        case _:
            raise ProtocolError("a run is done without a report")


def _generation_to_proto(report: GenerationReport) -> worker_pb2.GenerationReport:
    timings = report.timings
    message = worker_pb2.GenerationReport(
        unet_data_type=DATA_TYPES.to_proto(report.unet_data_type),
        vae_data_type=DATA_TYPES.to_proto(report.vae_data_type),
        channels_last=report.channels_last,
        load_seconds=timings.load,
        encode_text_seconds=timings.encode_text,
        denoise_seconds=timings.denoise,
        decode_seconds=timings.decode,
        encode_image_seconds=timings.encode_image,
    )
    for degradation in report.degradations:
        message.degradations.add(
            kind=DEGRADATIONS.to_proto(degradation.kind), detail=degradation.detail
        )
    return message


def _generation_from_proto(message: worker_pb2.GenerationReport) -> GenerationReport:
    _bounded(len(message.degradations), "degradations")
    return GenerationReport(
        timings=Timings(
            load=finite(message.load_seconds, "load_seconds"),
            encode_text=finite(message.encode_text_seconds, "encode_text_seconds"),
            denoise=finite(message.denoise_seconds, "denoise_seconds"),
            decode=finite(message.decode_seconds, "decode_seconds"),
            encode_image=finite(message.encode_image_seconds, "encode_image_seconds"),
        ),
        unet_data_type=known(DATA_TYPES, message.unet_data_type, "unet_data_type"),
        vae_data_type=known(DATA_TYPES, message.vae_data_type, "vae_data_type"),
        channels_last=message.channels_last,
        degradations=tuple(
            Degradation(
                known(DEGRADATIONS, degradation.kind, "degradation"),
                printable(degradation.detail, "degradation", longest=_LONGEST_SENTENCE),
            )
            for degradation in message.degradations
        ),
    )


def _facts_from_proto(message: device_pb2.GetDeviceCapabilitiesResponse) -> SelfTestFacts:
    _bounded(len(message.data_types), "data_types")
    _bounded(len(message.attention_backends), "attention_backends")
    _bounded(len(message.problems), "problems")
    return SelfTestFacts(
        data_types=tuple(
            DataTypeFacts(
                known(DATA_TYPES, fact.data_type, "data_type"),
                fact.works,
                error_share(fact.max_relative_error, "max_relative_error"),
                finite(fact.matmul_tflops, "matmul_tflops"),
            )
            for fact in message.data_types
        ),
        largest_allocation=figure_from_proto(message.largest_allocation, "largest_allocation"),
        attention_backends=tuple(
            check_name(name, "attention_backends", longest=64)
            for name in message.attention_backends
        ),
        has_float64=message.has_float64,
        host_to_device_gbps=finite(message.host_to_device_gbps, "host_to_device_gbps"),
        device_to_host_gbps=finite(message.device_to_host_gbps, "device_to_host_gbps"),
        has_pinned_memory=message.has_pinned_memory,
        has_compilation=message.has_compilation,
        measure_time=time_from_proto(message.measure_time, "measure_time"),
        software_versions=texts(message.software_versions, "software_versions", longest=200),
        problems=tuple(
            printable(problem, "problems", longest=_LONGEST_SENTENCE)
            for problem in message.problems
        ),
    )


def _optimization_to_proto(report: OptimizationReport) -> device_pb2.OptimizationReport:
    message = optimization_to_proto(report)
    message.step_before.FromNanoseconds(round(report.step_before * 1e9))
    message.step_after.FromNanoseconds(round(report.step_after * 1e9))
    return message


def _optimization_from_proto(message: device_pb2.OptimizationReport) -> OptimizationReport:
    _bounded(len(message.changes), "changes")
    before, after = message.step_before, message.step_after
    return OptimizationReport(
        profile=known(PROFILES, message.profile, "profile"),
        changes=tuple(
            OptimizationChange(
                check_name(change.setting, "setting", longest=64),
                printable(change.before, "before", longest=_LONGEST_SENTENCE),
                printable(change.after, "after", longest=_LONGEST_SENTENCE),
            )
            for change in message.changes
        ),
        step_before=finite(before.seconds + before.nanos / 1e9, "step_before"),
        step_after=finite(after.seconds + after.nanos / 1e9, "step_after"),
        peak_memory_before=figure_from_proto(message.peak_memory_before, "peak_memory_before"),
        peak_memory_after=figure_from_proto(message.peak_memory_after, "peak_memory_after"),
    )


def _bounded(count: int, field: str) -> None:
    if count > _MOST_ENTRIES:
        raise ProtocolError(f"{field} has too many elements")
