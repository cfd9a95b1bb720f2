"""`deviceops postprocessors` against a scripted server."""

from __future__ import annotations

import json
from pathlib import Path

from deviceops.v1 import common_pb2, event_pb2, finishing_pb2
from deviceops.v1 import postprocessing_pb2 as pb
from tests.server.cli.conftest import Run
from tests.server.cli.messages import accepted, event
from tests.server.cli.scripted import ScriptedServer

TIMES = common_pb2.DurationStatistics(count=5, total_ms=100, p50_ms=20, p99_ms=31)
MEASURED = finishing_pb2.PostprocessorBenchmark(
    postprocessor_id="big",
    device_id="cuda:0",
    run=TIMES,
    megapixels_per_second=13.1,
    peak_memory=common_pb2.ByteFigure(
        value_bytes=1 << 30, quality=common_pb2.FIGURE_QUALITY_MEASURED, source="a script"
    ),
)


def test_what_there_is_is_listed_with_its_figures(
    against: Run, scripted: ScriptedServer
) -> None:
    scripted.postprocessors.postprocessors.add(
        postprocessor_id="big",
        ready=True,
        factors=[4],
        benchmarks=[MEASURED],
        description="Big",
    )
    scripted.postprocessors.postprocessors.add(
        postprocessor_id="face-restore", explanation="no weights"
    )

    done = against("postprocessors", "list", "--ready")
    told = json.loads(against("postprocessors", "list", "--json").stdout)

    assert scripted.requests[0] == pb.ListPostprocessorsRequest(ready_only=True)
    assert "big\tyes\t4\tcuda:0 20 ms\tBig" in done.stdout.splitlines()
    assert "face-restore\tno\t\t\tno weights" in done.stdout.splitlines()
    assert told["postprocessors"][0]["postprocessor_id"] == "big"


def test_bench_shows_what_it_came_to(against: Run, scripted: ScriptedServer) -> None:
    completed = event_pb2.SessionCompleted(postprocessor_benchmark=MEASURED)
    scripted.loading = [accepted(), event(2, completed=completed)]

    done = against("postprocessors", "bench", "big", "--pixels", "256", "--runs", "5")

    assert done.exit_code == 0, done.output
    assert "a run: 20 ms, 99 % within 31 ms (5 times)" in done.stderr
    assert "13.10 megapixels of input per second" in done.stderr
    assert "peak memory: 1.0 GiB" in done.stderr
    assert scripted.requests == [
        pb.BenchmarkPostprocessorRequest(postprocessor_id="big", input_pixels=256, runs=5)
    ]


def test_bench_compares_what_comes_of_a_picture_with_a_reference(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "small.png").write_bytes(b"small")
    (tmp_path / "large.png").write_bytes(b"large")
    measured = finishing_pb2.PostprocessorBenchmark()
    measured.CopyFrom(MEASURED)
    measured.quality.psnr_db, measured.quality.ssim = 31.257, 0.91234
    measured.baseline_quality.psnr_db = 100
    completed = event_pb2.SessionCompleted(postprocessor_benchmark=measured)
    scripted.loading = [accepted(), event(2, completed=completed)]
    pictures = [f"{tmp_path}/small.png", "--reference", f"{tmp_path}/large.png"]

    done = against("postprocessors", "bench", "big", "--image", *pictures)

    assert done.exit_code == 0, done.output
    assert "  against the reference: 31.26 dB, SSIM 0.9123" in done.stderr.splitlines()
    assert "  without it: the same to the pixel" in done.stderr.splitlines()
    [asked] = scripted.requests
    assert (asked.image.inline, asked.reference.inline) == (b"small", b"large")


def test_bench_says_which_picture_cannot_be_read(against: Run, tmp_path: Path) -> None:
    done = against("postprocessors", "bench", "big", "--image", f"{tmp_path}/none.png")

    assert done.exit_code == 2
    assert "none.png cannot be read" in done.output


def test_statistics_are_shown(against: Run, scripted: ScriptedServer) -> None:
    nothing = against("postprocessors", "statistics")
    scripted.step_statistics.postprocessors.add(
        postprocessor_id="big", completed=TIMES, failed_count=2, cancelled_count=1
    )
    scripted.step_statistics.postprocessors.add(postprocessor_id="crop", failed_count=1)

    done = against("postprocessors", "statistics", "big")

    assert "No step has ended yet." in nothing.stderr
    assert scripted.requests[-1] == pb.GetPostprocessingStatisticsRequest(
        postprocessor_id="big"
    )
    assert done.stdout.splitlines()[1:] == [
        "big\t5\t2\t1\t20 ms\t31 ms",
        "crop\t0\t1\t0\t\t",
    ]
