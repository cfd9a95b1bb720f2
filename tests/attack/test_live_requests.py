"""Several clients call whatever there is, with ids of what is there, while workers are killed:
every answer is a documented one, and the server is well afterwards.

The seed decides what clients send; how fast processes are does not repeat.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil
import pytest

from deviceops.v1 import (
    generation_pb2,
    inference_pb2,
    processing_pb2,
    safety_pb2,
    session_pb2,
)
from tests.attack.live_requests import LiveRequests
from tests.attack.test_machine_faults import READY, until_state
from tests.e2e.test_every_rpc import DOCUMENTED, EVERY_RPC, Rpc
from tests.fakes.tiny_models import save_control_net, save_lora, save_sd1, save_sdxl
from tests.robustness.test_histories import SEED, chosen_seed
from tests.running import Client, RunningServer, small_request, start_server

CLIENTS, CALLS = 6, 120
KILLS = 2  # a third would bar the model, as it should
REST_SECONDS = 120
# More often than others: what begins work, and what changes work that was begun.
WEIGHTS = {
    **dict.fromkeys(("Generate", "RunWorkflow", "CreateWorkflow", "CreateBatch"), 6),
    **dict.fromkeys(("ProcessImage", "ProcessImages", "GenerateBatch", "UploadArtifact"), 4),
    **dict.fromkeys(("PauseSession", "ResumeSession", "UpdateSession", "CreateAllocation"), 3),
    **dict.fromkeys(("RestartWorker", "OptimizeDevice", "CancelSessions", "DeleteModel"), 0.3),
}
# A worker was killed or restarted; twice with one model.
OF_KILLS = {"WORKER_LOST", "WORKER_CRASH_REPEATED", "DEVICE_UNAVAILABLE"}
AT_WORK = {
    session_pb2.SESSION_STATE_QUEUED,
    session_pb2.SESSION_STATE_RUNNING,
    session_pb2.SESSION_STATE_PAUSING,
    session_pb2.SESSION_STATE_CANCELLING,
}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of its own over tiny models, of which "spare" alone may be changed."""
    fixed, free = tmp_path / "fixed", tmp_path / "free"
    save_sd1(fixed / "small")
    save_lora(fixed / "lora.safetensors", save_sdxl(fixed / "xl"))
    save_control_net(fixed / "net", fixed / "xl")
    shutil.copytree(fixed / "small", free / "spare")
    roots = ("--model-root", str(free), "--model-root", str(fixed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEVICEOPS_READ_ONLY_MODEL_ROOTS", str(fixed))
        with start_server(tmp_path / "data", *roots) as server:
            yield server


@pytest.mark.timeout(900)
async def test_whatever_clients_ask_for_the_server_stays_well(alone: RunningServer) -> None:
    seed = chosen_seed()
    print(f"seed {seed}: {SEED}={seed} runs it again")
    requests = LiveRequests("small", "xl")
    weights = [WEIGHTS.get(_name(rpc), 1) for rpc in EVERY_RPC]
    wrong: list[str] = []
    seen: Counter[str] = Counter()

    async def work(client: Client, chance: Random) -> None:
        for _ in range(CALLS):
            (rpc,) = chance.choices(EVERY_RPC, weights)
            sent = requests.stream(rpc.request_class, chance)
            longest = chance.choice((2, 1000))
            told = await rpc.call(
                client.channel, alone.token, *sent, longest=longest, heard=requests.learn
            )
            seen[told.code.name] += 1
            if not (told.code in DOCUMENTED or told.reason in OF_KILLS):
                wrong.append(f"{_name(rpc)}: {told} for {sent[0]}")

    async def kill() -> None:
        for number in range(1, KILLS + 1):
            while seen.total() < number * CLIENTS * CALLS // (KILLS + 1):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            while not (workers := _workers(alone)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            workers[0].kill()

    async with alone.client() as client:
        await until_state(client, READY)
        _, before = await client.draw(_exact())
        async with asyncio.timeout(700), asyncio.TaskGroup() as group:
            group.create_task(kill())
            for number in range(CLIENTS):
                group.create_task(work(client, Random(f"{seed} {number}")))
        assert wrong == []
        assert seen["OK"] > CLIENTS * CALLS // 10, seen

        await _come_to_rest(client)
        _, after = await client.draw(_exact())
        assert after == before
    incidents = [line for line in alone.log().splitlines() if '"event": "incident"' in line]
    assert [line for line in incidents if "WorkerCrashRepeated" not in line] == []


def _name(rpc: Rpc) -> str:
    return rpc.descriptor.name


def _workers(server: RunningServer) -> list[psutil.Process]:
    """Of devices; other children look into files."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if child.cmdline()[-1:] == ["server.worker.child"]]


def _exact() -> inference_pb2.GenerateRequest:
    """What no profile that a client has chosen changes."""
    exact = generation_pb2.Precision(mode=generation_pb2.PRECISION_MODE_EXACT)
    return small_request(model_id="small", precision=exact)


async def _come_to_rest(client: Client) -> None:
    """Cancel all work, batches that wait for more items too, until none is left; and delete
    the policies, one of which may have been made everybody's."""
    everything = processing_pb2.CancelSessionsRequest()
    everything.filter.states.extend(AT_WORK)
    async with asyncio.timeout(REST_SECONDS):
        while await _at_work(client):
            await client.processing.CancelSessions(everything, metadata=client.metadata)
            await asyncio.sleep(0.5)
    listed = await client.postprocessing.ListPolicies(
        safety_pb2.ListPoliciesRequest(), metadata=client.metadata
    )
    for policy in listed.policies:
        request = safety_pb2.DeletePolicyRequest(policy_id=policy.policy_id)
        await client.postprocessing.DeletePolicy(request, metadata=client.metadata)


async def _at_work(client: Client) -> list[session_pb2.Session]:
    request = processing_pb2.ListSessionsRequest(page_size=1000)
    listed = await client.processing.ListSessions(request, metadata=client.metadata)
    return [session for session in listed.sessions if session.state in AT_WORK]
