"""The data folder that a killed server of an earlier version has left is gone on with."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deviceops.v1 import (
    artifact_pb2,
    inference_pb2,
    processing_pb2,
    session_pb2,
    workflow_pb2,
)
from tests.attack.test_clock_jumps import ShiftedClock
from tests.e2e.earlier.make import LABELS, UPLOADED, detached
from tests.e2e.test_durable_batches import CANCELLED, COMPLETED, FINAL, PAUSED, until
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, start_server

FOLDERS = sorted(Path(__file__).with_name("earlier").glob("*.tar.xz"))
SOON = 5
"""Seconds after the server before was killed that this one starts."""


async def session(client: Client, session_id: str) -> session_pb2.Session:
    request = processing_pb2.GetSessionRequest(session_id=session_id)
    return (await client.processing.GetSession(request, metadata=client.metadata)).session


async def ended(client: Client, session_id: str) -> session_pb2.Session:
    watch = processing_pb2.WatchSessionRequest(session_id=session_id)
    async with asyncio.timeout(180):
        async for _ in client.processing.WatchSession(watch, metadata=client.metadata):
            pass
    return await session(client, session_id)


async def content(client: Client, artifact_id: str) -> bytes:
    request = artifact_pb2.DownloadArtifactRequest(artifact_id=artifact_id)
    call = client.artifact.DownloadArtifact(request, metadata=client.metadata)
    return b"".join([answer.data async for answer in call])


async def ended_work_is_there(client: Client, facts: dict[str, Any]) -> None:
    before = await session(client, facts["completed"])
    assert before.state == COMPLETED
    assert [each.artifact_id for each in before.images] == [facts["picture"]]
    file = await content(client, facts["picture"])
    assert hashlib.sha256(file).hexdigest() == facts["picture"]
    assert (await session(client, facts["cancelled"])).state == CANCELLED
    again = inference_pb2.GenerateRequest.FromString(bytes.fromhex(facts["request"]))
    events, files = await client.draw(again)
    assert (events[0].session_id, events[0].accepted.existing) == (facts["completed"], True)
    assert not files or files[0] == file

    asked = artifact_pb2.GetArtifactRequest(artifact_id=facts["uploaded"])
    found = await client.artifact.GetArtifact(asked, metadata=client.metadata)
    assert dict(found.artifact.labels) == LABELS
    assert await content(client, facts["uploaded"]) == UPLOADED
    workflow = workflow_pb2.GetWorkflowRequest(workflow_id="three")
    kept = await client.processing.GetWorkflow(workflow, metadata=client.metadata)
    assert kept.workflow.version == 1


async def work_goes_on(client: Client, facts: dict[str, Any]) -> None:
    assert (await session(client, facts["paused"])).state == PAUSED
    resume = processing_pb2.ResumeSessionRequest(session_id=facts["paused"])
    await client.processing.ResumeSession(resume, metadata=client.metadata)
    drawn = await ended(client, facts["paused"])
    assert drawn.state == COMPLETED, drawn.failure
    events, _ = await client.draw(detached(seed=2, steps=100))
    anew = events[-1].completed.images[0]
    assert drawn.images[0].artifact_id == anew.artifact_id, "its kept steps are the same"

    batch = await until(client, facts["batch"], *FINAL)
    assert batch.batch.completed_count == 4
    items = {each.item_id: each.session_id for each in batch.items}
    assert {name: items[name] for name in facts["done"]} == facts["done"]
    for name in ("waiting", "run"):
        found = await ended(client, facts[name])
        assert found.state == COMPLETED, (name, found.failure)


@pytest.mark.demonstration
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("packed", FOLDERS, ids=lambda packed: packed.name.split(".")[0])
async def test_what_an_earlier_version_has_left_is_gone_on_with(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    facts = json.loads((tmp_path / "facts.json").read_text())
    save_sd1(tmp_path / "models" / "small")
    then = datetime.fromisoformat(facts["time"]).replace(tzinfo=UTC)
    clock = ShiftedClock(tmp_path, monkeypatch)  # or all of it would have expired
    clock.set(round((then - datetime.now(UTC)).total_seconds()) + SOON)
    with start_server(tmp_path / "data", "--model-root", str(tmp_path / "models")) as server:
        async with server.client() as client:
            await ended_work_is_there(client, facts)
            await work_goes_on(client, facts)


def test_there_is_one() -> None:
    assert FOLDERS
