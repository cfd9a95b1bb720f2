"""Postprocessors for people: what there is, what it takes, what it came to."""

from __future__ import annotations

import typer

from deviceops.v1 import common_pb2, finishing_pb2, postprocessing_pb2
from server.cli.output import table
from server.cli.wording import byte_figure, duration

SAME_DB = 100.0
"""The contract's word for equal pictures."""
_LISTED = ("postprocessor", "ready", "factors", "measured", "about")
_COUNTED = ("postprocessor", "completed", "failed", "cancelled", "half within", "99 of 100")


def show_list(found: postprocessing_pb2.ListPostprocessorsResponse) -> None:
    """A row for each."""
    table(_LISTED, [_listed(one) for one in found.postprocessors])


def show_statistics(found: postprocessing_pb2.GetPostprocessingStatisticsResponse) -> None:
    """A row for each that was used."""
    if not found.postprocessors:
        typer.echo("No step has ended yet.", err=True)
        return
    table(_COUNTED, [_counted(one) for one in found.postprocessors])


def benchmark_lines(found: finishing_pb2.PostprocessorBenchmark) -> list[str]:
    """What a measurement came to."""
    lines = [
        f"  a run: {_half(found.run)}, 99 % within {duration(found.run.p99_ms / 1_000)}"
        f" ({found.run.count} times)",
        f"  {found.megapixels_per_second:.2f} megapixels of input per second",
        f"  peak memory: {byte_figure(found.peak_memory)}",
    ]
    if found.HasField("quality"):
        lines.append(f"  against the reference: {_quality(found.quality)}")
    if found.HasField("baseline_quality"):
        lines.append(f"  without it: {_quality(found.baseline_quality)}")
    return lines


def _quality(found: finishing_pb2.PictureQuality) -> str:
    similarity = f", SSIM {found.ssim:.4f}" if found.HasField("ssim") else ""
    if found.psnr_db >= SAME_DB:
        return f"the same to the pixel{similarity}"
    return f"{found.psnr_db:.2f} dB{similarity}"


def _listed(one: postprocessing_pb2.Postprocessor) -> tuple[str, ...]:
    measured = "; ".join(f"{each.device_id} {_half(each.run)}" for each in one.benchmarks)
    factors = ", ".join(map(str, one.factors))
    about = one.description if one.ready else one.explanation
    return one.postprocessor_id, "yes" if one.ready else "no", factors, measured, about


def _counted(one: postprocessing_pb2.PostprocessorStatistics) -> tuple[str, ...]:
    times = one.completed
    ends = (_half(times), duration(times.p99_ms / 1_000)) if times.count else ("", "")
    counts = (times.count, one.failed_count, one.cancelled_count)
    return one.postprocessor_id, *map(str, counts), *ends


def _half(times: common_pb2.DurationStatistics) -> str:
    return duration(times.p50_ms / 1_000)
