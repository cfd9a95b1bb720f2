"""`deviceops generate --dry-run`: what would be, or why it would be refused."""

from __future__ import annotations

import json
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from deviceops.v1 import (
    common_pb2,
    conditioning_pb2,
    device_info_pb2,
    errors_pb2,
    generation_pb2,
    inference_pb2,
    sampling_pb2,
    session_pb2,
)
from tests.server.cli.conftest import Run
from tests.server.cli.scripted import ScriptedServer

GIB = 1 << 30


def figure(value: int) -> common_pb2.ByteFigure:
    return common_pb2.ByteFigure(value_bytes=value, quality=common_pb2.FIGURE_QUALITY_ESTIMATED)


def valid() -> inference_pb2.ValidateGenerationResponse:
    return inference_pb2.ValidateGenerationResponse(
        valid=True,
        effective_settings=generation_pb2.GenerationSettings(
            prompt="a cat\x1b[31m",
            seamless_vertically=False,
            width=512,
            seeds=[3, 4],
            loras=[conditioning_pb2.LoraWeight(model_id="line", weight=-1.0)],
            scheduler=sampling_pb2.SchedulerSettings(
                scheduler=sampling_pb2.SCHEDULER_EULER_DISCRETE
            ),
        ),
        expected_phases=[session_pb2.PHASE_LOADING_MODEL, session_pb2.PHASE_DENOISING],
        placement=device_info_pb2.PlacementDecision(device_id="cuda:0"),
        queue_position=2,
        memory=figure(3 * GIB),
        available_memory=figure(2 * GIB),
        fits=False,
        estimated_duration=Duration(seconds=75),
        degradations=[
            common_pb2.Degradation(
                kind=common_pb2.DEGRADATION_KIND_VAE_TILED, detail="It comes in tiles."
            )
        ],
        phase_memory=[
            inference_pb2.PhaseMemory(phase=session_pb2.PHASE_DENOISING, needed=figure(3 * GIB))
        ],
    )


def refused() -> inference_pb2.ValidateGenerationResponse:
    found = inference_pb2.ValidateGenerationResponse(violations_omitted=4)
    for field, reason in (("width", "DIMENSIONS_INVALID"), ("steps", "FIELD_OUT_OF_RANGE")):
        found.violations.add(field=f"settings.{field}", description="No.", reason=reason)
    return found


def test_everything_is_told_and_nothing_drawn(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.verdict = valid()

    done = against("generate", "a cat", "--dry-run", "-o", tmp_path / "p.webp")

    assert done.exit_code == 0, done.output
    assert not (tmp_path / "p.webp").exists()
    (asked,) = scripted.of_type(inference_pb2.ValidateGenerationRequest)
    assert asked.request.settings.prompt == "a cat"
    assert asked.request.settings.output.format  # as the output's name says
    assert done.stdout.splitlines() == [
        "where:   cuda:0",
        "waiting: 2 ahead",
        "phases:  Loading the model, Drawing",
        "time:    about 1 min 15 s on the device",
        "memory:  ~3.0 GiB at the peak, ~2.0 GiB to be had: probably too little",
        "phase\tmemory with the weights",
        "Drawing\t~3.0 GiB",
        "setting\tvalue",
        "prompt\ta cat[31m",
        *("loras.0.model_id\tline", "loras.0.weight\t-1.0", "width\t512"),
        "scheduler.scheduler\tSCHEDULER_EULER_DISCRETE",
        "seamless_vertically\tfalse",
        "seeds\t3,4",
        "note: It comes in tiles.",
    ]


def test_every_violation_is_told_with_its_field(against: Run, scripted: ScriptedServer) -> None:
    scripted.verdict = refused()

    done = against("generate", "a cat", "--dry-run")

    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "Error: The server would refuse the request.",
        "  reason: DIMENSIONS_INVALID (INVALID_ARGUMENT)",
        "  settings.width: No.",
        "  settings.steps: No. (FIELD_OUT_OF_RANGE)",
        "  and 4 more",
    ]


def test_a_valid_request_that_cannot_run_now_ends_as_drawing_would(
    against: Run, scripted: ScriptedServer
) -> None:
    scripted.verdict.failure.CopyFrom(
        errors_pb2.Failure(
            status_code=8, reason=errors_pb2.ERROR_REASON_QUEUE_FULL, message="It is full."
        )
    )

    done = against("generate", "a cat", "--dry-run")

    assert done.exit_code == 5
    assert "Error: It is full.\n  reason: QUEUE_FULL" in done.stderr


def test_programs_get_the_contracts_answer_and_the_same_exit_codes(
    against: Run, scripted: ScriptedServer
) -> None:
    scripted.verdict = refused()
    done = against("generate", "a cat", "--dry-run", "--json")
    assert done.exit_code == 2
    told = json.loads(done.stdout)
    assert told["valid"] is False
    assert told["violations"][0]["field"] == "settings.width"

    scripted.verdict = valid()
    done = against("generate", "a cat", "--dry-run", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["effective_settings"]["width"] == 512


def test_what_starts_nothing_cannot_be_left_running(against: Run) -> None:
    done = against("generate", "a cat", "--dry-run", "--detach")
    assert done.exit_code == 2
    assert "--detach" in done.stderr
