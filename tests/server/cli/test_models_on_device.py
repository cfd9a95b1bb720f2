"""The commands about models on devices, against a scripted server."""

from __future__ import annotations

import json

from deviceops.v1 import common_pb2, event_pb2, model_info_pb2, model_pb2, model_task_pb2
from tests.server.cli.conftest import Run
from tests.server.cli.messages import accepted, event
from tests.server.cli.scripted import ScriptedServer

GIB = 1 << 30


def figure(value: int) -> common_pb2.ByteFigure:
    quality = common_pb2.FIGURE_QUALITY_MEASURED
    return common_pb2.ByteFigure(value_bytes=value, quality=quality, source="a script")


def completed(**report: object) -> event_pb2.SessionEvent:
    return event(2, completed=event_pb2.SessionCompleted(**report))  # type: ignore[arg-type]


def test_load_sends_what_was_chosen(against: Run, scripted: ScriptedServer) -> None:
    loaded = model_info_pb2.LoadedModel(device_id="cuda:0", evicted_model_ids=["old"])
    scripted.loading = [accepted(), completed(loaded_model=loaded)]

    done = against("models", "load", "ink", "--data-type", "vae=bfloat16", "--warm-up")
    wrong = against("models", "load", "ink", "--data-type", "vae")

    assert done.exit_code == 0, done.output
    assert "left for it: old" in done.stderr
    (asked,) = scripted.requests
    assert isinstance(asked, model_pb2.LoadModelRequest)
    assert asked.warm_up
    assert [(one.part, one.data_type) for one in asked.data_types] == [
        (common_pb2.MODEL_PART_VAE, common_pb2.TENSOR_DATA_TYPE_BFLOAT16)
    ]
    assert wrong.exit_code != 0
    assert "PART=TYPE" in wrong.output + wrong.stderr


def test_a_dry_run_says_whether_it_fits_and_what_would_go(
    against: Run, scripted: ScriptedServer
) -> None:
    estimate = model_info_pb2.ModelEstimate(fits=True, peak=figure(9 * GIB))
    loaded = model_info_pb2.LoadedModel(
        device_id="cuda:0", evicted_model_ids=["old"], estimate=estimate
    )
    scripted.loading = [accepted(), completed(loaded_model=loaded)]

    done = against("models", "load", "ink", "--dry-run")

    assert "fits on cuda:0: 9.0 GiB with a picture" in done.stderr
    assert "would leave: old" in done.stderr


def test_unload_says_what_it_freed(against: Run, scripted: ScriptedServer) -> None:
    report = model_info_pb2.ModelUnloadReport(
        device_ids=["cuda:0"], freed=figure(7 * GIB), cached=True
    )
    scripted.loading = [accepted(), completed(model_unload=report)]

    done = against("models", "unload", "ink", "--keep-cached")

    assert "left cuda:0, stays in main memory: 7.0 GiB freed" in done.stderr
    assert scripted.requests == [model_pb2.UnloadModelRequest(model_id="ink", keep_cached=True)]


def test_status_shows_a_model_everywhere(against: Run, scripted: ScriptedServer) -> None:
    status = scripted.model_status
    status.model.model_id = "ink"
    status.loaded.add(device_id="cuda:0", size=figure(7 * GIB), session_ids=["a"])
    status.estimates.add(
        device_id="cuda:0", weights=figure(7 * GIB), peak=figure(9 * GIB), fits=True
    )

    done = against("models", "status", "ink")
    told = json.loads(against("models", "status", "ink", "--json").stdout)

    assert "cuda:0 (7.0 GiB" in done.stdout
    assert "used by 1" in done.stdout
    assert "9.0 GiB" in done.stdout
    assert told["model"]["model_id"] == "ink"


def test_bench_shows_each_part_of_the_time(against: Run, scripted: ScriptedServer) -> None:
    times = common_pb2.DurationStatistics(count=3, total_ms=30, p50_ms=10, p99_ms=11)
    found = model_info_pb2.ModelBenchmark(step=times, switch=times, peak_memory=figure(GIB))
    scripted.loading = [accepted(), completed(model_benchmark=found)]

    done = against("models", "bench", "ink", "--steps", "3")

    assert done.exit_code == 0, done.output
    assert "from main memory:" in done.stderr
    assert "from disk" not in done.stderr
    assert "(3 times)" in done.stderr
    assert "peak memory: 1.0 GiB" in done.stderr
    assert scripted.requests == [model_task_pb2.BenchmarkModelRequest(model_id="ink", steps=3)]
