"""Other machines as the front sees them: looked for, lost, and their memory their own."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from domains.codec import encode_json
from domains.device.types import DeviceState
from domains.errors import FailedPrecondition, Reason, Unavailable
from domains.session.errors import WorkerLost
from server.worker.cluster import look
from server.worker.cluster.joining import Node, NodeGone, name_of
from server.worker.front.machines import LOOK_SECONDS, ClusterMachines
from server.worker.front.restart import RestartRules
from server.worker.link.machines import Machine, Machines
from tests.clocks import SteeredTime
from tests.fakes.device import PROCESSOR, card
from tests.server.worker.workers import DEVICE, outcome, ready, running, scripted, until

THERE = replace(DEVICE, device_id="ray:node-a:cpu:0", node="node-a")
# One death is enough, if it counts.
STRICT = RestartRules(first_delay=0.05, longest_delay=0.05, deaths=1, poison_deaths=1)


def says(code: str, *, patience: float = 30.0) -> ClusterMachines:
    """A look that is this program."""
    return ClusterMachines(
        "head:1", command=lambda _: [sys.executable, "-c", code], patience=patience
    )


async def test_adapters_know_where_they_are() -> None:
    odd = replace(card(0), torch_device="/dev/sda")
    found = Machines(
        (Machine("node-a", (PROCESSOR, card(1), odd)), Machine("node-b", (), "No."))
    )
    adapters, unseen = await says(f"print({encode_json(found).decode()!r})").look()
    assert adapters == (replace(PROCESSOR, node="node-a"), replace(card(1), node="node-a"))
    assert unseen == "No."


@pytest.mark.parametrize(
    ("code", "patience", "why"),
    [
        ("print('nonsense')", 30.0, "without an answer"),
        ("raise SystemExit(3)", 30.0, "without an answer"),
        ("import time; time.sleep(60)", 0.3, "did not answer within 0.3 s"),
    ],
)
async def test_a_look_that_fails_says_why(code: str, patience: float, why: str) -> None:
    adapters, unseen = await says(code, patience=patience).look()
    assert adapters == ()
    assert why in unseen


async def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    """The product's own look; nobody listens on the first port."""
    adapters, unseen = await ClusterMachines("127.0.0.1:1").look()
    assert adapters == ()
    assert unseen.startswith("No Ray cluster listens at 127.0.0.1:1")


def test_nodes_that_do_not_answer_take_nothing_from_those_that_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The front waits for one look at all of them."""
    clock = SteeredTime()
    cluster = SimpleNamespace(
        nodes=lambda: [Node(name, name) for name in ("silent", "mute", "there")],
        on_node=lambda node, function: node.name,
    )

    def answer(name: str, patience: float) -> bytes:
        if name == "there":
            return encode_json(Machine("here", (PROCESSOR,)))
        clock.move(patience)
        raise NodeGone("Its node does not answer.")

    monkeypatch.setattr(look, "joined", lambda address: contextlib.nullcontext(cluster))
    monkeypatch.setattr(look, "answer_of", answer)
    monkeypatch.setattr(look, "time", SimpleNamespace(monotonic=lambda: clock.seconds))
    began = clock.seconds
    found = look._look("head:1").machines
    assert [bool(machine.adapters) for machine in found] == [False, False, True]
    assert clock.seconds - began < LOOK_SECONDS


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("node-a", "node-a"),
        ("Desk.Home", "desk-home"),
        ("10.0.0.7", "10-0-0-7"),
        ("...", "node"),
    ],
)
def test_names_of_nodes_fit_into_ids(given: str, name: str) -> None:
    assert name_of(given) == name


async def test_a_machine_that_is_gone_is_lost_and_nobodys_fault(tmp_path: Path) -> None:
    """Again and again: the device is never quarantined, and work is refused meanwhile."""
    gone = [sys.executable, "-c", "raise SystemExit(6)"]
    async with running(tmp_path, gone, rules=STRICT, devices=(THERE,)) as pool:

        def lost(status: object) -> bool:
            return pool.status(THERE.device_id).restart_count >= 2

        await until(pool, lambda s: s.state is DeviceState.LOST and lost(s), THERE.device_id)
        error = (await outcome(pool, device_id=THERE.device_id)).raised(Unavailable)
        assert error.reason is Reason.DEVICE_UNAVAILABLE
        assert "left the cluster" in error.message


async def test_of_a_worker_here_that_exit_says_nothing_special(tmp_path: Path) -> None:
    gone = [sys.executable, "-c", "raise SystemExit(6)"]
    async with running(tmp_path, gone, rules=STRICT) as pool:
        await until(pool, lambda status: status.state is DeviceState.QUARANTINED)


async def test_work_of_a_machine_that_is_lost_may_go_on_elsewhere(tmp_path: Path) -> None:
    """Its worker ends as one does whose machine is gone."""
    async with running(tmp_path, scripted(), rules=STRICT, devices=(THERE,)) as pool:
        await ready(pool, THERE.device_id)
        error = (await outcome(pool, "leave-cluster", device_id=THERE.device_id)).error
        assert isinstance(error, WorkerLost)
        assert error.repeats
        assert "machine" in error.message
        await ready(pool, THERE.device_id)  # and is tried again


async def test_memory_there_is_not_to_be_had_here(tmp_path: Path) -> None:
    async with running(tmp_path, scripted(), devices=(THERE,)) as pool:
        await ready(pool, THERE.device_id)
        with pytest.raises(FailedPrecondition) as refused:
            await pool.allocate(THERE.device_id, "buffer", 1 << 20)
        assert refused.value.reason is Reason.DEVICE_UNSUPPORTED
        await pool.release_cached(THERE.device_id)  # harmless anywhere
