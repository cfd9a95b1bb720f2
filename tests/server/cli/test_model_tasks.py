"""The commands that check and copy models, against a scripted server."""

from __future__ import annotations

import pytest

from deviceops.v1 import common_pb2, event_pb2, model_info_pb2, model_task_pb2
from tests.server.cli.conftest import Run
from tests.server.cli.messages import accepted, event
from tests.server.cli.scripted import ScriptedServer


def completed(**report: object) -> event_pb2.SessionEvent:
    return event(2, completed=event_pb2.SessionCompleted(**report))  # type: ignore[arg-type]


def test_validate_lists_what_is_wrong_by_file(against: Run, scripted: ScriptedServer) -> None:
    finding = model_info_pb2.ModelFinding(
        component="unet", tensor="a.weight", description="Bad."
    )
    report = model_info_pb2.ModelValidationReport(findings=[finding], findings_omitted=3)
    scripted.loading = [accepted(), completed(model_validation=report)]

    done = against("models", "validate", "ink", "--depth", "full")

    assert done.exit_code == 0, done.output
    assert "unet: a.weight: Bad." in done.stderr
    assert "and 3 more" in done.stderr
    assert scripted.requests == [
        model_task_pb2.ValidateModelRequest(
            model_id="ink", depth=model_task_pb2.VALIDATION_DEPTH_FULL
        )
    ]


def test_validate_says_when_nothing_is_wrong(against: Run, scripted: ScriptedServer) -> None:
    estimate = model_info_pb2.ModelEstimate(device_id="cuda:0", fits=True)
    report = model_info_pb2.ModelValidationReport(valid=True, sha256="ab", estimate=estimate)
    scripted.loading = [accepted(), completed(model_validation=report)]

    done = against("models", "validate", "ink")

    assert "nothing is wrong" in done.stderr
    assert "SHA-256 ab" in done.stderr
    assert "fits on cuda:0" in done.stderr


def test_convert_sends_what_was_chosen(against: Run, scripted: ScriptedServer) -> None:
    model = model_info_pb2.ModelInfo(model_id="ink-safe")
    scripted.loading = [accepted(), completed(model=model)]

    done = against("models", "convert", "ink", "ink-safe", "--data-type", "bfloat16")

    assert done.exit_code == 0, done.output
    assert scripted.requests == [
        model_task_pb2.ConvertModelRequest(
            model_id="ink",
            target_model_id="ink-safe",
            data_type=common_pb2.TENSOR_DATA_TYPE_BFLOAT16,
            format=model_info_pb2.MODEL_FORMAT_SAFETENSORS,
        )
    ]


def test_optimize_says_what_it_saved(against: Run, scripted: ScriptedServer) -> None:
    report = model_info_pb2.ModelOptimizationReport(
        size_before_bytes=4 << 30, size_after_bytes=2 << 30, tensors_pruned=7
    )
    scripted.loading = [accepted(), completed(model_optimization=report)]

    done = against("models", "optimize", "ink", "small", "--prune")

    assert done.exit_code == 0, done.output
    assert "4.0 GiB -> 2.0 GiB, 7 tensors left out" in done.stderr
    (asked,) = scripted.requests
    assert (asked.prune, asked.data_type) == (True, 0)
    assert not asked.HasField("placement")


@pytest.mark.parametrize(
    ("options", "device_id", "similarity", "said"),
    [
        (["--measure"], "", 100.0, "a picture of each: the same to the pixel"),
        (["--device", "gpu"], "gpu", 41.26, "a picture of each: 41.3 dB alike"),
    ],
)
def test_optimize_tells_what_was_measured_of_both(
    against: Run,
    scripted: ScriptedServer,
    options: list[str],
    device_id: str,
    similarity: float,
    said: str,
) -> None:
    def measured(step_ms: float) -> model_info_pb2.ModelBenchmark:
        times = common_pb2.DurationStatistics(count=1, p50_ms=step_ms)
        return model_info_pb2.ModelBenchmark(step=times)

    report = model_info_pb2.ModelOptimizationReport(
        before=measured(2_000), after=measured(1_500), similarity_db=similarity
    )
    scripted.loading = [accepted(), completed(model_optimization=report)]

    done = against("models", "optimize", "ink", "small", *options)

    assert done.exit_code == 0, done.output
    assert "step: 2.0 s -> 1.5 s" in done.stderr
    assert said in done.stderr
    (asked,) = scripted.requests
    assert asked.HasField("placement")
    assert asked.placement.device_id == device_id
