"""What a server tells of generations: before, afterwards, and after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from deviceops.v1 import inference_pb2, session_pb2
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, small_request, start_server


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny checkpoint."""
    folder = tmp_path_factory.mktemp("models")
    save_sd1(folder / "small")
    return folder


async def statistics(client: Client) -> inference_pb2.GetInferenceStatisticsResponse:
    request = inference_pb2.GetInferenceStatisticsRequest(device_id="cpu", model_id="small")
    return await client.inference.GetInferenceStatistics(request, metadata=client.metadata)


async def validated(client: Client) -> inference_pb2.ValidateGenerationResponse:
    request = inference_pb2.ValidateGenerationRequest(
        request=small_request(steps=3, model_id="small")
    )
    return await client.inference.ValidateGeneration(request, metadata=client.metadata)


async def test_what_is_told_before_after_and_over_a_restart(root: Path, tmp_path: Path) -> None:
    with start_server(tmp_path / "data", "--model-root", str(root)) as running:
        async with running.client() as client:
            empty = await statistics(client)
            told = await validated(client)
            events, _ = await client.draw(small_request(steps=3, model_id="small"))
            before = await statistics(client)
            known = await validated(client)
    with start_server(tmp_path / "data", "--model-root", str(root)) as running:
        async with running.client() as client:
            after = await statistics(client)

    assert not empty.by_model
    assert (before.completed_count, before.image_count, before.step.count) == (1, 1, 3)
    steps = [event.step_finished for event in events if event.HasField("step_finished")]
    took = sum(step.duration.ToMicroseconds() for step in steps) / 1_000
    assert before.step.total_ms == pytest.approx(took, abs=0.1)
    assert min(before.load.total_ms, before.decode.p50_ms, before.encode_image.p99_ms) > 0
    (alone,) = before.by_batch_size
    assert (alone.asked_image_count, alone.completed_count, alone.step.count) == (1, 1, 3)
    assert alone.work.total_ms > alone.step.total_ms
    assert after == before
    assert told.valid
    assert known.valid
    assert not told.HasField("estimated_duration")
    assert known.estimated_duration.ToMicroseconds() > 0
    assert session_pb2.PHASE_LOADING_MODEL in told.expected_phases
    assert session_pb2.PHASE_LOADING_MODEL not in known.expected_phases
    assert "shapes" in told.memory.source
    assert "earlier generations" in known.memory.source
    assert [one.phase for one in told.phase_memory] == [
        session_pb2.PHASE_ENCODING_TEXT,
        session_pb2.PHASE_DENOISING,
        session_pb2.PHASE_DECODING,
    ]
    assert 0 < told.memory.value_bytes < told.available_memory.value_bytes
    assert told.fits
