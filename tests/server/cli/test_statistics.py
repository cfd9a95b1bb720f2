"""`deviceops statistics` against a scripted server."""

from __future__ import annotations

import json

from deviceops.v1 import common_pb2, inference_pb2
from tests.server.cli.conftest import Run
from tests.server.cli.scripted import ScriptedServer


def times(count: int, p50: float) -> common_pb2.DurationStatistics:
    return common_pb2.DurationStatistics(
        count=count, total_ms=count * p50, p50_ms=p50, p99_ms=2 * p50
    )


def test_sums_models_and_times_are_shown(against: Run, scripted: ScriptedServer) -> None:
    step = times(50, 12.5)
    found = scripted.statistics
    found.completed_count, found.image_count, found.text_cache_hits = 2, 3, 1
    found.step.CopyFrom(step)
    found.cancel.CopyFrom(times(1, 1_500))
    found.by_model.add(device_id="cuda:0", model_id="emoji", completed_count=2, step=step)

    found.by_batch_size.add(
        asked_image_count=4, completed_count=2, work=times(2, 9_000), step=times(8, 12.5)
    )

    done = against("statistics", "--device", "gpu", "--model", "emoji")

    (asked,) = scripted.of_type(inference_pb2.GetInferenceStatisticsRequest)
    assert (asked.device_id, asked.model_id) == ("gpu", "emoji")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["completed:", "2"]
    assert "cuda:0\temoji\t2\t0\t0\t0\t12.5 ms\t" in lines
    assert "one step\t50\t625 ms\t12.5 ms\t25 ms" in lines
    assert "4\t2\t0\t0\t9.0 s\t12.5 ms" in lines
    assert any(line.startswith("stopping when cancelled\t1\t1.5 s") for line in lines)


def test_programs_get_the_contracts_message(against: Run, scripted: ScriptedServer) -> None:
    scripted.statistics.completed_count = 4

    done = against("statistics", "--json")

    assert json.loads(done.stdout)["completed_count"] == "4"


def test_before_the_first_generation_there_is_nothing(against: Run) -> None:
    done = against("statistics")

    assert done.stdout == ""
    assert "No generation has ended yet" in done.stderr
