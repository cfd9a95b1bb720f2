"""Every RPC has a least role, and a real server goes by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health  # type: ignore[import-untyped]

from domains.clients import Caller, Role
from server.app import SERVICE_NAMES
from server.config import Settings
from server.reflection import V1_NAME, V1ALPHA_NAME
from server.roles import LEAST_ROLES, least_role
from server.token_list import TokenFiles
from tests.server.apps import SteeredApp, running
from tests.server.echo import told

BESIDE = (health.SERVICE_NAME, V1_NAME, V1ALPHA_NAME)
LOOKING = ("Get", "List", "Search", "Watch", "Download", "Read")
EVERYBODYS = ("SetDefault", "Restart", "Optimize", "Import", "Convert", "Evict", "Unload")


@pytest.fixture
async def doors(settings: Settings) -> AsyncIterator[tuple[grpc.aio.Channel, dict[Role, str]]]:
    """A server with every service, and a token of each role."""
    files = TokenFiles(settings.token_path)
    settings.runtime_dir.mkdir(mode=0o700)
    tokens = {role: files.add(role.value, role) for role in Role}
    app = SteeredApp()
    app.device.released.set()
    async with running(settings, app) as server:
        yield server.channel, tokens


def rpcs() -> set[str]:
    """Every method of every service, as the descriptors have them."""
    pool = descriptor_pool.Default()
    return {
        f"/{service}/{method.name}"
        for service in (*SERVICE_NAMES, *BESIDE)
        for method in pool.FindServiceByName(service).methods
    }


async def test_the_table_has_every_rpc_and_no_other(
    doors: tuple[grpc.aio.Channel, dict[Role, str]],
) -> None:
    """With a server running: reflection's second version is described then."""
    assert set(LEAST_ROLES) == rpcs()


async def test_every_rpc_refuses_every_role_below_its_own_and_no_other(
    doors: tuple[grpc.aio.Channel, dict[Role, str]],
) -> None:
    channel, tokens = doors
    cases = [(method, role) for method in sorted(LEAST_ROLES) for role in (None, *Role)]
    answers = await asyncio.gather(
        *(reason(channel, method, tokens[role] if role else "") for method, role in cases)
    )
    wrong = {
        (method, role): answer
        for (method, role), answer in zip(cases, answers, strict=True)
        if answer != expected(method, role)
    }
    assert wrong == {}


def expected(method: str, role: Role | None) -> str:
    """What the gate says: a reason, or nothing where it lets the call through."""
    least = LEAST_ROLES[method]
    if least is None:
        return ""
    if role is None:
        return "TOKEN_MISSING"
    ranks = [Role.READ, Role.RUN, Role.ADMIN]
    if ranks.index(role) >= ranks.index(least):
        return ""
    return f"PERMISSION_DENIED ROLE_REQUIRED {role.name} {least.name}"


async def reason(channel: grpc.aio.Channel, method: str, token: str) -> str:
    """Why the gate refuses a call; whatever comes from behind it counts as nothing."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    start: Any = channel.stream_stream(method)
    call = start(iter([b""]), metadata=metadata, timeout=30)
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        what = told(error)
        if what.reason == "ROLE_REQUIRED":
            facts = what.metadata
            role, least = facts["role"], facts["required_role"]
            return f"{what.code.name} {what.reason} {role} {least}"
        return what.reason if what.reason.startswith("TOKEN") else ""
    call.cancel()
    return ""


def test_what_has_no_row_is_for_those_who_may_do_all() -> None:
    assert least_role("/deviceops.v1.DeviceService/Invented") is Role.ADMIN
    assert least_role("/grpc.health.v1.Health/Invented") is Role.ADMIN


@pytest.mark.parametrize("method", sorted(LEAST_ROLES))
def test_a_row_is_as_its_verb_says(method: str) -> None:
    verb = method.rpartition("/")[2]
    if method.startswith("/deviceops") and verb.startswith(LOOKING):
        assert least_role(method) is Role.READ
    if verb.startswith(EVERYBODYS):
        assert least_role(method) is Role.ADMIN


def test_each_role_may_do_what_those_before_it_may() -> None:
    assert [[role.includes(other) for other in Role] for role in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


@pytest.mark.parametrize("role", Role)
def test_others_things_exist_for_those_who_may_do_all(role: Role) -> None:
    ann = Caller("ann", role)
    assert ann.sees("ann")
    assert ann.sees("bob") is (role is Role.ADMIN)
