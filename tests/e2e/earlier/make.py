"""Makes a data folder as a killed server of some version leaves it, for `test_earlier_folders`.

    python tests/e2e/earlier/make.py FOLDER

is run in a checkout of that version, with its own `tests` and generated code in the path.
FOLDER has `data` and `facts.json` afterwards, which are packed: tokens, the lock and the log
are taken out.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

from deviceops.v1 import (
    artifact_pb2,
    common_pb2,
    generation_pb2,
    inference_pb2,
    processing_pb2,
    session_pb2,
    upload_pb2,
    workflow_pb2,
)
from tests.e2e.test_durable_batches import asked, create, get, item, until_some_ended
from tests.e2e.test_workflow_restarts import THREE
from tests.e2e.workflow_calls import run_request
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, RunningServer, small_request, start_server

UPLOADED = b"what somebody has left here"
LABELS = {"kept": "from before"}


async def _upload(client: Client) -> str:
    digest = hashlib.sha256(UPLOADED).hexdigest()
    header = upload_pb2.UploadHeader(upload_id=str(uuid.uuid4()), size_bytes=len(UPLOADED))
    parts = (
        artifact_pb2.UploadArtifactRequest(
            header=artifact_pb2.ArtifactUpload(upload=header, labels=LABELS)
        ),
        artifact_pb2.UploadArtifactRequest(data=UPLOADED),
        artifact_pb2.UploadArtifactRequest(
            completion=upload_pb2.UploadCompletion(sha256=digest)
        ),
    )
    answer = await client.artifact.UploadArtifact(iter(parts), metadata=client.metadata)
    return answer.artifact.artifact_id


def _small(settings: generation_pb2.GenerationSettings) -> None:
    settings.output.format = common_pb2.IMAGE_FILE_FORMAT_JPEG
    settings.output.quality = 10


def detached(**settings: Any) -> inference_pb2.GenerateRequest:
    """A generation that goes on when nobody listens; its file is small."""
    request = small_request(**settings)
    _small(request.settings)
    request.options.request_id = str(uuid.uuid4())
    request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    return request


async def _begun(client: Client, request: inference_pb2.GenerateRequest, steps: int = 0) -> str:
    call = client.generate(request)
    session_id = ""
    async for answer in call:
        session_id = answer.event.session_id
        if not steps or answer.event.step_finished.step >= steps:
            break
    call.cancel()
    return session_id


async def _fill(server: RunningServer, facts: dict[str, Any]) -> None:
    async with server.client() as client:
        metadata = client.metadata
        first = detached(seed=1)
        events, _ = await client.draw(first)
        facts["completed"] = events[-1].session_id
        facts["request"] = first.SerializeToString().hex()
        facts["picture"] = events[-1].completed.images[0].artifact_id
        facts["uploaded"] = await _upload(client)
        paused = facts["paused"] = await _begun(client, detached(seed=2, steps=100), 3)
        pause = processing_pb2.PauseSessionRequest(session_id=paused)
        await client.processing.PauseSession(pause, metadata=metadata)
        look = processing_pb2.GetSessionRequest(session_id=paused)
        state = session_pb2.SESSION_STATE_UNSPECIFIED
        while state != session_pb2.SESSION_STATE_PAUSED:
            found = await client.processing.GetSession(look, metadata=metadata)
            state = found.session.state
            await asyncio.sleep(0.1)
        stopped = facts["cancelled"] = await _begun(client, detached(seed=3, steps=150), 1)
        cancel = processing_pb2.CancelSessionRequest(session_id=stopped)
        await client.processing.CancelSession(cancel, metadata=metadata)
        kept = workflow_pb2.CreateWorkflowRequest(workflow=THREE)
        await client.processing.CreateWorkflow(kept, metadata=metadata)
        lengths = {"a": 2, "b": 2, "c": 150, "d": 2}
        wanted = asked(*(item(name, steps=steps) for name, steps in lengths.items()))
        _small(wanted.template)
        batch = await create(client, wanted)
        facts["batch"] = batch.batch_id
        await until_some_ended(client, batch.batch_id, 2)
        facts["done"] = {
            each.item_id: each.session_id
            for each in (await get(client, batch.batch_id)).items
            if each.state == session_pb2.SESSION_STATE_COMPLETED
        }
        facts["waiting"] = await _begun(client, detached(seed=4, steps=4))
        run = run_request("three")
        run.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
        run.options.request_id = str(uuid.uuid4())
        accepted = await anext(
            aiter(client.processing.RunWorkflow(run, metadata=client.metadata))
        )
        facts["run"] = accepted.event.session_id
        facts["time"] = accepted.event.event_time.ToDatetime().isoformat()
        server.process.kill()
        server.process.wait()


def main(folder: Path) -> None:
    """Make it."""
    save_sd1(folder / "models" / "small")
    facts: dict[str, Any] = {}
    data = folder / "data"
    with start_server(data, "--model-root", str(folder / "models")) as server:
        asyncio.run(_fill(server, facts))
    (folder / "facts.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(data / "runtime")
    for name in ("server.lock", "server.log", "journal.sqlite-shm"):
        (data / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
