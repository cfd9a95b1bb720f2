"""Work on a device as a session: its progress, its report, its end."""

from __future__ import annotations

from collections.abc import Callable

from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    device_pb2,
    event_pb2,
    model_cache_pb2,
    model_info_pb2,
    model_pb2,
    model_task_pb2,
    postprocessing_pb2,
)
from server.cli.client import Client
from server.cli.endings import conclude
from server.cli.exits import Exit
from server.cli.following import Ending, EventCall, Follower, Manner
from server.cli.narration import sentence
from server.cli.postprocessor_rows import SAME_DB, benchmark_lines
from server.cli.views import chosen, message_facts
from server.cli.wording import byte_figure, duration, enum_word, printable, seconds_of, size

_WHENCE = {
    model_info_pb2.MODEL_ORIGIN_LOADED: ", and was already",
    model_info_pb2.MODEL_ORIGIN_CACHED: ", from main memory",
    model_info_pb2.MODEL_ORIGIN_DISK: ", from disk",
}


def load(client: Client, request: model_pb2.LoadModelRequest, *, as_json: bool) -> Exit:
    """Put a model on a device and show what it takes there; the exit code."""
    return _run(client, lambda: client.models.LoadModel(request), as_json=as_json)


def unload(client: Client, request: model_pb2.UnloadModelRequest, *, as_json: bool) -> Exit:
    """Take a model off devices and show what that freed; the exit code."""
    return _run(client, lambda: client.models.UnloadModel(request), as_json=as_json)


def cache(client: Client, request: model_cache_pb2.CacheModelRequest, *, as_json: bool) -> Exit:
    """Read a model into main memory and show how far it is; the exit code."""
    return _run(client, lambda: client.models.CacheModel(request), as_json=as_json)


def refresh(client: Client, request: model_pb2.RefreshModelsRequest, *, as_json: bool) -> Exit:
    """Look through the model folders and show what changed; the exit code."""
    return _run(client, lambda: client.models.RefreshModels(request), as_json=as_json)


def import_model(
    client: Client, request: model_task_pb2.ImportModelRequest, *, as_json: bool
) -> Exit:
    """Have artifacts become a model and show how far it is; the exit code."""
    return _run(client, lambda: client.models.ImportModel(request), as_json=as_json)


def benchmark(
    client: Client, request: model_task_pb2.BenchmarkModelRequest, *, as_json: bool
) -> Exit:
    """Measure a model and show its times; the exit code."""
    return _run(client, lambda: client.models.BenchmarkModel(request), as_json=as_json)


def benchmark_postprocessor(
    client: Client, request: postprocessing_pb2.BenchmarkPostprocessorRequest, *, as_json: bool
) -> Exit:
    """Measure a postprocessor and show its times; the exit code."""
    service = client.postprocessing
    return _run(client, lambda: service.BenchmarkPostprocessor(request), as_json=as_json)


def validate(
    client: Client, request: model_task_pb2.ValidateModelRequest, *, as_json: bool
) -> Exit:
    """Check a model and show what is wrong with it; the exit code."""
    return _run(client, lambda: client.models.ValidateModel(request), as_json=as_json)


def convert(
    client: Client, request: model_task_pb2.ConvertModelRequest, *, as_json: bool
) -> Exit:
    """Write a copy of a model; the exit code."""
    return _run(client, lambda: client.models.ConvertModel(request), as_json=as_json)


def optimize_model(
    client: Client, request: model_task_pb2.OptimizeModelRequest, *, as_json: bool
) -> Exit:
    """Write a smaller copy of a model and show what that saved; the exit code."""
    return _run(client, lambda: client.models.OptimizeModel(request), as_json=as_json)


def optimize(
    client: Client, request: device_pb2.OptimizeDeviceRequest, *, as_json: bool
) -> Exit:
    """Apply a profile and show what it changed; the exit code."""
    return _run(client, lambda: client.devices.OptimizeDevice(request), as_json=as_json)


def restart(client: Client, request: device_pb2.RestartWorkerRequest, *, as_json: bool) -> Exit:
    """Replace a worker; the exit code."""
    return _run(client, lambda: client.devices.RestartWorker(request), as_json=as_json)


def _run(client: Client, start: Callable[[], EventCall], *, as_json: bool) -> Exit:
    with chosen(as_json=as_json) as view:
        follower = Follower(client, handle=view.event, note=view.note, manner=Manner())
        ending = follower.follow(start)
    facts: dict[str, object] = {}
    lines = [_outcome(ending)]
    if ending.terminal is not None and ending.state == "completed":
        completed = ending.terminal.completed
        kind = completed.WhichOneof("report")
        if kind is not None:
            facts["report"] = message_facts(getattr(completed, kind))
        lines += _report(completed)
    return conclude(view, ending, lines, facts, as_json=as_json)


def _outcome(ending: Ending) -> str:
    if ending.terminal is None:
        return "Left before the session's end."
    return f"Session {ending.session_id}: {sentence(ending.terminal)}"


def _report(completed: event_pb2.SessionCompleted) -> list[str]:
    """What the work came to, for people; nothing for work without a report."""
    match completed.WhichOneof("report"):
        case "loaded_model":
            return _place(completed.loaded_model)
        case "model_unload":
            return _left(completed.model_unload)
        case "refresh":
            return _found(completed.refresh)
        case "model_benchmark":
            return _times(completed.model_benchmark)
        case "postprocessor_benchmark":
            return benchmark_lines(completed.postprocessor_benchmark)
        case "model_validation":
            return _findings(completed.model_validation)
        case "model_optimization":
            return _saved(completed.model_optimization)
        case "optimization":
            return _effect(completed.optimization)
    return []


def _found(report: model_info_pb2.RefreshReport) -> list[str]:
    ids = (
        ("new", report.added_model_ids),
        ("changed", report.changed_model_ids),
        ("gone", report.removed_model_ids),
    )
    lines = [f"{word}\t{printable(', '.join(some))}" for word, some in ids if some]
    left_out = [f"left out\t{printable(problem)}" for problem in report.problems]
    return [*lines, f"{report.total_count} models", *left_out]


def _place(loaded: model_info_pb2.LoadedModel) -> list[str]:
    device = printable(loaded.device_id)
    gone = ", ".join(map(printable, loaded.evicted_model_ids))
    if loaded.HasField("estimate"):
        fits = "fits" if loaded.estimate.fits else "does not fit"
        lines = [f"  {fits} on {device}: {byte_figure(loaded.estimate.peak)} with a picture"]
        return lines + ([f"  would leave: {gone}"] if gone else [])
    whence = _WHENCE.get(loaded.origin, "")
    lines = [f"  on {device}{whence}: {byte_figure(loaded.size)}"]
    return lines + ([f"  left for it: {gone}"] if gone else [])


def _left(report: model_info_pb2.ModelUnloadReport) -> list[str]:
    devices = ", ".join(map(printable, report.device_ids)) or "no device any more"
    kept = ", stays in main memory" if report.cached else ""
    return [f"  left {devices}{kept}: {byte_figure(report.freed)} freed"]


def _findings(report: model_info_pb2.ModelValidationReport) -> list[str]:
    lines = [
        f"  {printable(': '.join(filter(None, (one.component, one.tensor, one.description))))}"
        for one in report.findings
    ]
    if report.findings_omitted:
        lines.append(f"  and {report.findings_omitted} more")
    if report.sha256:
        lines.append(f"  SHA-256 {report.sha256}")
    if report.HasField("estimate"):
        fits = "fits" if report.estimate.fits else "does not fit"
        device = printable(report.estimate.device_id)
        lines.append(
            f"  {fits} on {device}: {byte_figure(report.estimate.peak)} with a picture"
        )
    return [*lines, "  nothing is wrong with it"] if report.valid else lines


def _saved(report: model_info_pb2.ModelOptimizationReport) -> list[str]:
    before, after = size(report.size_before_bytes), size(report.size_after_bytes)
    lines = [f"  {before} -> {after}, {report.tensors_pruned} tensors left out"]
    if not report.HasField("after"):
        return lines
    measured = (("from disk", "load"), ("step", "step"), ("decoding", "decode"))
    lines += [
        f"  {words}: {_usual(report.before, name)} -> {_usual(report.after, name)}"
        for words, name in measured
    ]
    return [
        *lines,
        f"  peak memory: {byte_figure(report.before.peak_memory)}"
        f" -> {byte_figure(report.after.peak_memory)}",
        f"  a picture of each: {_likeness(report.similarity_db)}",
    ]


def _usual(found: model_info_pb2.ModelBenchmark, name: str) -> str:
    return duration(getattr(found, name).p50_ms / 1_000)


def _likeness(decibels: float) -> str:
    same = decibels >= SAME_DB
    return "the same to the pixel" if same else f"{decibels:.1f} dB alike"


def _times(found: model_info_pb2.ModelBenchmark) -> list[str]:
    named = (
        ("from disk", found.load),
        ("from main memory", found.switch),
        ("prompt", found.encode),
        ("step", found.step),
        ("decoding", found.decode),
    )
    lines = [
        f"  {words}: {duration(each.p50_ms / 1_000)},"
        f" 99 % within {duration(each.p99_ms / 1_000)} ({each.count} times)"
        for words, each in named
        if each.count
    ]
    return [*lines, f"  peak memory: {byte_figure(found.peak_memory)}"]


def _effect(report: device_info_pb2.OptimizationReport) -> list[str]:
    changes = [f"  {_change(change)}" for change in report.changes]
    before, after = seconds_of(report.step_before), seconds_of(report.step_after)
    return [
        *(changes or ["  nothing changed: it was so already"]),
        f"  one step: {duration(before)} -> {duration(after)}",
        f"  peak memory: {byte_figure(report.peak_memory_before)}"
        f" -> {byte_figure(report.peak_memory_after)}",
    ]


def _change(change: device_info_pb2.OptimizationChange) -> str:
    setting = enum_word(
        device_info_pb2.OptimizationSetting, change.setting, "OPTIMIZATION_SETTING_"
    )
    part = enum_word(common_pb2.ModelPart, change.part, "MODEL_PART_") if change.part else ""
    about = f"{setting} of the {part}" if part else setting
    return f"{about}: {printable(change.before)} -> {printable(change.after)}"
