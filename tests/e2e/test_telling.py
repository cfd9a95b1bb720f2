"""What a server tells of generations: before, afterwards, and after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from deviceops.v1 import inference_pb2
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


async def test_statistics_survive_a_restart(root: Path, tmp_path: Path) -> None:
    with start_server(tmp_path / "data", "--model-root", str(root)) as running:
        async with running.client() as client:
            empty = await statistics(client)
            events, _ = await client.draw(small_request(steps=3, model_id="small"))
            before = await statistics(client)
    with start_server(tmp_path / "data", "--model-root", str(root)) as running:
        async with running.client() as client:
            after = await statistics(client)

    assert not empty.by_model
    assert (before.completed_count, before.image_count, before.step.count) == (1, 1, 3)
    steps = [event.step_finished for event in events if event.HasField("step_finished")]
    told = sum(step.duration.ToMicroseconds() for step in steps) / 1_000
    assert before.step.total_ms == pytest.approx(told, abs=0.1)
    assert min(before.load.total_ms, before.decode.p50_ms, before.encode_image.p99_ms) > 0
    assert after == before
