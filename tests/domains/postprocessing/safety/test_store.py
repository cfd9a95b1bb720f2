"""Policies that are kept: owners, versions, the default, and what is refused."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from domains.clients import Caller
from domains.errors import DomainError, Reason, ResourceExhausted
from domains.postprocessing.safety.core import store as module
from domains.postprocessing.safety.core.store import PolicyStore
from domains.postprocessing.safety.errors import (
    OperatorsPolicy,
    PolicyChanged,
    PolicyInUse,
    PolicyNameTaken,
    PolicyNotFound,
    TooManyPolicies,
)
from tests.domains.postprocessing.safety.policies import (
    ADMIN,
    JOHN,
    MARY,
    NOW,
    STRICT,
    Disk,
    store_of,
)

MILD = replace(STRICT, rules=())


def names(store: PolicyStore, viewer: Caller, owner: str = "") -> list[str]:
    page = store.listed(viewer, owner, page_size=0, page_token="")
    return [f"{each.policy.owner}/{each.policy.policy_id}" for each in page.items]


async def made(store: PolicyStore, viewer: Caller = MARY, *, is_default: bool = False) -> None:
    await store.create(STRICT, viewer, is_default=is_default)


async def test_a_policy_is_its_clients_and_survives_the_server() -> None:
    disk = Disk()
    kept = await store_of(disk).create(STRICT, MARY, is_default=False)
    assert (kept.policy.version, kept.policy.owner, kept.policy.create_time) == (1, "mary", NOW)
    store = store_of(disk)
    assert store.get("strict", MARY) == kept == store.get("strict", ADMIN)
    with pytest.raises(PolicyNotFound) as refused:
        store.get("strict", JOHN)
    assert refused.value.reason is Reason.POLICY_NOT_FOUND
    assert names(store, MARY) == ["mary/strict"] == names(store, ADMIN, "mary")
    assert names(store, JOHN) == []


async def test_old_versions_stay_as_they_were() -> None:
    disk = Disk()
    store = store_of(disk)
    await made(store)
    changed = await store.update(MILD, MARY, 1, is_default=False)
    assert (changed.policy.version, changed.policy.rules) == (2, ())
    with pytest.raises(PolicyChanged) as refused:
        await store.update(STRICT, MARY, 1, is_default=False)
    assert refused.value.metadata["version"] == "2"
    for each in (store, store_of(disk)):
        assert each.get("strict", MARY).policy == changed.policy
        assert each.get("strict", MARY, 1).policy.rules == STRICT.rules
        for version in (3, -1):
            with pytest.raises(PolicyNotFound):
                each.get("strict", MARY, version)


async def test_what_is_deleted_is_gone_in_all_versions() -> None:
    disk = Disk()
    store = store_of(disk)
    await made(store)
    await store.update(MILD, MARY, 1, is_default=False)
    with pytest.raises(PolicyChanged):
        await store.delete("strict", MARY, 1)
    await store.delete("strict", MARY, 2)
    for each in (store, store_of(disk)):
        with pytest.raises(PolicyNotFound):
            each.get("strict", MARY, 1)
    assert not disk.versions.kept


async def test_what_is_in_use_is_not_deleted() -> None:
    disk = Disk()
    store = store_of(disk)
    await made(store)
    disk.users["mary/strict"] = "some-session"
    with pytest.raises(PolicyInUse) as refused:
        await store.delete("strict", MARY, 0)
    assert refused.value.reason is Reason.STATE_CONFLICT
    assert refused.value.metadata["session_id"] == "some-session"
    disk.users.clear()
    await store.delete("strict", MARY, 0)


async def test_names_are_a_clients_own_but_for_those_of_operators() -> None:
    store = store_of(Disk())
    await made(store)
    await made(store, JOHN)
    with pytest.raises(PolicyNameTaken):
        await made(store)
    await store.create(replace(STRICT, policy_id="house"), ADMIN, is_default=False)
    with pytest.raises(PolicyNameTaken):
        await store.create(replace(STRICT, policy_id="house"), MARY, is_default=False)


async def test_an_operators_policy_is_everybodys_to_use_and_nobodys_to_change() -> None:
    store = store_of(Disk())
    await made(store, ADMIN)
    assert store.get("strict", MARY).policy.owner == "boss"
    assert names(store, JOHN) == ["boss/strict"]
    for refused in (
        store.update(MILD, MARY, 1, is_default=False),
        store.delete("strict", MARY, 0),
    ):
        with pytest.raises(OperatorsPolicy):
            await refused


async def test_one_policy_is_the_default_and_another_one_takes_its_place() -> None:
    disk = Disk()
    store = store_of(disk)
    assert store.default is None
    await made(store, ADMIN, is_default=True)
    other = replace(STRICT, policy_id="other")
    await store.create(other, ADMIN, is_default=True)
    for each in (store, store_of(disk)):
        assert each.default is not None
        assert each.default.policy_id == "other"
        assert not each.get("strict", MARY).is_default
        assert each.get("other", MARY).is_default
    await store.update(other, ADMIN, 1, is_default=False)
    assert store.default is None is store_of(disk).default
    await store.update(other, ADMIN, 2, is_default=True)
    await store.delete("other", ADMIN, 0)
    assert store.default is None is store_of(disk).default


async def test_only_an_operator_says_what_holds_for_all() -> None:
    store = store_of(Disk())
    with pytest.raises(OperatorsPolicy) as refused:
        await made(store, MARY, is_default=True)
    assert refused.value.reason is Reason.ROLE_REQUIRED
    await made(store)
    with pytest.raises(OperatorsPolicy):
        await store.update(STRICT, MARY, 1, is_default=True)
    await store.update(STRICT, ADMIN, 1, is_default=True)
    assert store.default == store.get("strict", MARY).policy
    with pytest.raises(OperatorsPolicy):  # it was hers, and holds for all by now
        await store.update(MILD, MARY, 2, is_default=False)


async def test_a_full_disk_keeps_nothing() -> None:
    disk = Disk()
    store = store_of(disk)
    disk.versions.full = True
    with pytest.raises(ResourceExhausted):
        await made(store)
    assert names(store, MARY) == []
    disk.versions.full = False
    await made(store)
    disk.versions.full = True
    with pytest.raises(ResourceExhausted):
        await store.update(MILD, MARY, 1, is_default=False)
    assert store.get("strict", MARY).policy.version == 1


async def test_a_client_keeps_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    store = store_of(Disk())
    await made(store)
    await store.update(MILD, MARY, 1, is_default=False)
    with pytest.raises(TooManyPolicies):
        await store.update(MILD, MARY, 2, is_default=False)
    await made(store, JOHN)


async def test_records_of_another_version_stay_and_do_no_harm() -> None:
    disk = Disk()
    disk.versions.kept["mary/odd/1"] = b"what is this"
    disk.default.kept["default"] = b"and this"
    store = store_of(disk)
    assert names(store, ADMIN) == []
    assert store.default is None
    assert "mary/odd/1" in disk.versions.kept


async def test_lists_come_in_pages() -> None:
    store = store_of(Disk())
    for number in range(3):
        policy = replace(STRICT, policy_id=f"p{number}")
        await store.create(policy, MARY, is_default=False)
    first = store.listed(MARY, "", page_size=2, page_token="")
    rest = store.listed(MARY, "", page_size=2, page_token=first.next_page_token)
    assert [e.policy.policy_id for e in (*first.items, *rest.items)] == ["p0", "p1", "p2"]
    assert not rest.next_page_token
    with pytest.raises(DomainError):
        store.listed(JOHN, "", page_size=2, page_token=first.next_page_token)
