"""Workflows that are kept: names, owners, versions, and what a disk does not take."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domains.clients import Caller, Role
from domains.errors import Reason, ResourceExhausted
from domains.processing.workflows.convert.ready import ready_made
from domains.processing.workflows.core import store as module
from domains.processing.workflows.core.store import WorkflowStore
from domains.processing.workflows.errors import (
    TooManyWorkflows,
    WorkflowChanged,
    WorkflowNameTaken,
    WorkflowNotFound,
    WorkflowReadyMade,
)
from tests.domains.processing.workflows.disk import Memory

MARY, JOHN = Caller("mary", Role.RUN), Caller("john", Role.RUN)
ADMIN = Caller("boss", Role.ADMIN)
NOW = datetime(2026, 11, 29, tzinfo=UTC)


def store_of(disk: Memory) -> WorkflowStore:
    made = WorkflowStore(ready_made(), disk, lambda: NOW)
    made.recall()
    return made


def names(store: WorkflowStore, viewer: Caller, owner: str = "") -> list[str]:
    page = store.listed(viewer, owner, page_size=0, page_token="")
    return [each.workflow_id for each in page.items]


async def test_a_workflow_is_its_clients_and_survives_the_server() -> None:
    disk = Memory()
    made = await store_of(disk).create("mine", "mary", b"1")
    assert (made.version, made.create_time, made.built_in) == (1, NOW, False)
    store = store_of(disk)
    assert store.get("mine", MARY) == made == store.get("mine", ADMIN)
    with pytest.raises(WorkflowNotFound) as refused:
        store.get("mine", JOHN)
    assert refused.value.reason is Reason.WORKFLOW_NOT_FOUND
    assert "mine" in names(store, MARY)
    assert "mine" not in names(store, JOHN)
    assert names(store, ADMIN, "mary") == ["mine"]
    assert len(names(store, JOHN)) == len(ready_made())


async def test_each_client_has_names_of_its_own() -> None:
    store = store_of(Memory())
    first = await store.create("mine", "mary", b"1")
    second = await store.create("mine", "john", b"2")
    assert (store.get("mine", MARY), store.get("mine", JOHN)) == (first, second)
    for name, owner in (("mine", "mary"), ("second-pass", "mary")):
        with pytest.raises(WorkflowNameTaken):
            await store.create(name, owner, b"3")


async def test_a_change_is_made_from_the_newest_version() -> None:
    disk = Memory()
    store = store_of(disk)
    await store.create("mine", "mary", b"1")
    changed = await store.update("mine", MARY, b"2", 1)
    assert (changed.version, changed.body) == (2, b"2")
    with pytest.raises(WorkflowChanged) as refused:
        await store.update("mine", MARY, b"3", 1)
    assert refused.value.metadata["version"] == "2"
    assert store_of(disk).get("mine", MARY) == changed


async def test_what_is_deleted_is_gone_for_good() -> None:
    disk = Memory()
    store = store_of(disk)
    await store.create("mine", "mary", b"1")
    with pytest.raises(WorkflowChanged):
        await store.delete("mine", MARY, 2)
    with pytest.raises(WorkflowNotFound):
        await store.delete("mine", JOHN, 0)
    await store.delete("mine", MARY, 1)
    with pytest.raises(WorkflowNotFound):
        store_of(disk).get("mine", MARY)


async def test_what_comes_with_the_server_stays_whole() -> None:
    store = store_of(Memory())
    for change in (
        store.update("second-pass", ADMIN, b"", 1),
        store.delete("second-pass", ADMIN, 1),
    ):
        with pytest.raises(WorkflowReadyMade):
            await change


async def test_what_the_disk_does_not_take_is_not_there() -> None:
    store = store_of(Memory(full=True))
    with pytest.raises(ResourceExhausted):
        await store.create("mine", "mary", b"1")
    with pytest.raises(WorkflowNotFound):
        store.get("mine", MARY)


async def test_a_client_stores_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    store = store_of(Memory())
    await store.create("a", "mary", b"1" * 6)
    with pytest.raises(TooManyWorkflows):
        await store.create("b", "mary", b"1" * 6)
    await store.create("b", "mary", b"1" * 4)
    with pytest.raises(TooManyWorkflows) as refused:
        await store.create("c", "mary", b"")
    assert refused.value.reason is Reason.CLIENT_QUOTA_EXCEEDED
    await store.create("c", "john", b"1" * 6)


async def test_a_record_that_is_none_is_left_out() -> None:
    disk = Memory({"mary/odd": b"\xff"})
    assert names(store_of(disk), MARY) == names(store_of(Memory()), MARY)
    assert disk.kept == {"mary/odd": b"\xff"}
