"""Any history of calls leaves a batch as a small model says, and every item done once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from domains.codec import decode
from domains.errors import DomainError, Reason
from domains.processing.batches.types import Computation, ItemRecord, ItemWork, Retry
from domains.session.types import ItemFinished, SessionState
from tests.domains.processing.batches.conftest import Place
from tests.domains.processing.batches.test_batches import MARY, batch_of, begin, items

KINDS = ("", "", "slow", "fail:1", "fail:9")
ENDS = {SessionState.COMPLETED, SessionState.FAILED, SessionState.CANCELLED}


@pytest.mark.parametrize("seed", range(8))
async def test_any_history_of_calls_does_every_item_once(here: Place, seed: int) -> None:
    chance = random.Random(seed)
    computation = chance.choice(list(Computation))
    batch = await begin(
        here,
        batch_of(
            *chance.choices(KINDS, k=6),
            keep_open=True,
            retry=Retry(2, 0.0),
            computation=computation,
        ),
    )
    known = here.batches.get(batch.batch_id, MARY)
    contents = {each.item_id: each.overlay for each in known.items.all}
    sealed = cancelled = False
    refused: list[tuple[str, Reason, bool]] = []
    for number in range(25):
        action = chance.choice(
            ["add", "pause", "resume", "look", "let", "again", "one", "seal"]
        )
        final = known.session.state.final
        try:
            if action == "add":
                work = ItemWork(f"n{number}", chance.choice(KINDS).encode(), "items[0]")
                await here.control.add(batch.batch_id, [work], MARY, seal=False)
                assert not sealed
                contents[work.item_id] = work.overlay
            elif action == "pause":
                await here.control.pause(batch.batch_id, MARY, "")
            elif action == "resume":
                await here.control.resume(batch.batch_id, MARY)
            elif action == "let":
                here.craft.gate.set()
            elif action == "again":
                failed = known.items.count(SessionState.FAILED)
                _, count = await here.control.retry(batch.batch_id, (), MARY)
                assert count == failed
            elif action == "one" and not cancelled:
                for child in here.sessions.children(known.session.session_id):
                    cancelled = cancelled or child.request_cancel(Reason.CANCELLED_BY_CLIENT)
            elif action == "seal" and chance.random() < 0.3:
                await here.control.add(batch.batch_id, (), MARY, seal=True)
                sealed = True
        except DomainError as error:
            refused.append((action, error.reason, sealed or final))
        await asyncio.sleep(chance.choice([0, 0, 0.002]))
    assert {reason for _, reason, _ in refused} <= {Reason.STATE_CONFLICT}
    assert all(closed for action, _, closed in refused if action == "add")
    here.craft.gate.set()
    async with asyncio.timeout(10):
        while not known.session.state.final:
            if known.session.state is SessionState.PAUSED:
                await here.control.resume(batch.batch_id, MARY)
            if not sealed:
                await here.control.add(batch.batch_id, (), MARY, seal=True)
                sealed = True
            await asyncio.sleep(0.001)
    found = {each.item_id: each for each in items(here, batch.batch_id)}
    assert {name: known.items.find(name).overlay for name in found} == contents  # type: ignore[union-attr]
    assert {each.state for each in found.values()} <= ENDS
    kept = [decode(ItemRecord, body) for body in here.disks[1].records.values()]
    assert {each.item_id: each.state for each in kept} == {
        name: each.state for name, each in found.items()
    }
    told = Counter[str]()
    async for event in here.reader.events(known.session):
        told[event.item_id] += isinstance(event.event, ItemFinished)
    for name, each in found.items():
        if each.state is SessionState.COMPLETED:
            assert len(each.images) == 1
            assert told[name] <= 1 or contents[name] != b""
        if not (contents[name] or b"").startswith(b"fail"):
            assert each.attempts <= 1
    status = known.status(MARY)
    assert status.completed + status.failed + status.cancelled == status.items == len(contents)
