"""Who gets in: a token of the list in one authorization header, and health without any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from domains.clients import STRANGER, Role, caller
from server.identity import Identities
from server.interceptors.auth import AuthInterceptor
from server.interceptors.errors import ErrorInterceptor
from server.interceptors.log import LogInterceptor
from server.interceptors.requests import RequestInterceptor
from server.interceptors.stall import StallInterceptor
from server.token_list import TokenFiles
from tests.server.echo import ARITIES, UNREADABLE, serving, told


class Door:
    """A list of tokens, and the interceptors of a server that goes by it."""

    def __init__(self, folder: Path) -> None:
        self.files = TokenFiles(folder / "token")
        self.tokens = {role: self.files.add(role.value, role) for role in Role}
        self.identities = Identities(self.files)

    @property
    def interceptors(self) -> Sequence[grpc.aio.ServerInterceptor]:
        return [
            LogInterceptor(),
            ErrorInterceptor(),
            AuthInterceptor(self.identities),
            RequestInterceptor(),
        ]

    def metadata(self, role: Role = Role.ADMIN) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.tokens[role]}")]

    async def revoke(self, role: Role) -> None:
        """Have it revoked, and noticed."""
        self.files.revoke(role.value)
        await self.identities.look()


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


async def refused(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call, 30)
    return told(caught.value)


@pytest.mark.parametrize("arity", ARITIES)
async def test_right_token_passes(door: Door, arity: str) -> None:
    async with serving(door.interceptors) as echo:
        assert set(await echo.call(arity, metadata=door.metadata())) == {"hi"}


async def test_scheme_is_case_insensitive(door: Door) -> None:
    [(key, value)] = door.metadata()
    async with serving(door.interceptors) as echo:
        assert await echo.call("Unary", metadata=[(key, value.replace("B", "b", 1))])


@pytest.mark.parametrize("arity", ARITIES)
async def test_no_token_is_refused(door: Door, arity: str) -> None:
    async with serving(door.interceptors) as echo:
        what = await refused(echo.call(arity))
    assert (what.code, what.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")


@pytest.mark.parametrize("arity", ARITIES)
@pytest.mark.parametrize(
    "values",
    [
        ["Bearer {}x"],
        ["Bearer {:.42}"],
        ["Bearer "],
        ["{}"],
        ["Basic {}"],
        ["Bearer {}", "Bearer {}"],
        ["Bearer {}, Bearer {}"],
    ],
    ids=["longer", "shorter", "empty", "no scheme", "other scheme", "two", "joined"],
)
async def test_wrong_header_is_refused_without_telling_the_token(
    door: Door, arity: str, values: list[str]
) -> None:
    secret = door.tokens[Role.ADMIN]
    metadata = [("authorization", value.format(secret, secret)) for value in values]
    async with serving(door.interceptors) as echo:
        what = await refused(echo.call(arity, metadata=metadata))
    assert (what.code, what.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
    assert secret[:-1] not in str(what)


@pytest.mark.parametrize("arity", ARITIES)
async def test_a_stranger_s_bytes_are_not_parsed(door: Door, arity: str) -> None:
    async with serving(door.interceptors) as echo:
        assert (await refused(echo.call(arity, raw=UNREADABLE))).reason == "TOKEN_MISSING"


async def test_health_passes_without_a_token_and_reflection_does_not(door: Door) -> None:
    async def check(request: StringValue, context: Any) -> StringValue:
        return StringValue(value=repr(caller() is STRANGER))

    async with serving(
        door.interceptors, {"Check": _stream(check)}, service="grpc.health.v1.Health"
    ) as echo:
        assert await echo.call("Check") == ["True"]
        assert await echo.call("Check", metadata=[("authorization", "Bearer x")]) == ["True"]
        assert await echo.call("Check", metadata=door.metadata(Role.READ)) == ["False"]
    name = "grpc.reflection.v1.ServerReflection"
    behaviours = {"ServerReflectionInfo": _stream(check)}
    async with serving(door.interceptors, behaviours, service=name) as echo:
        assert (await refused(echo.call("ServerReflectionInfo"))).reason == "TOKEN_MISSING"


def _stream(unary: Any) -> Any:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield await unary(request, context)

    return stream


async def test_health_lookalike_is_not_open(door: Door) -> None:
    async with serving(door.interceptors, service="grpc.health.v1.HealthAndMore") as echo:
        assert (await refused(echo.call("Unary"))).reason == "TOKEN_MISSING"


@pytest.mark.parametrize("arity", ARITIES)
async def test_what_runs_in_a_call_knows_its_client_and_the_log_names_it(
    door: Door, arity: str, log_lines: list[dict[str, Any]]
) -> None:
    async def name(request: Any, context: Any) -> StringValue:
        await asyncio.sleep(0)
        return StringValue(value=f"{caller().name} {caller().role.name}")

    # A method that has no row is for ADMIN, so that none is forgotten into the open.
    behaviour = name if arity in ("Unary", "ClientStream") else _stream(name)
    async with serving(door.interceptors, {arity: behaviour}) as echo:
        assert await echo.call(arity, metadata=door.metadata()) == ["admin ADMIN"]
        what = await refused(echo.call(arity, metadata=door.metadata(Role.RUN)))
        await refused(echo.call(arity))

    assert (what.code, what.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")
    assert what.metadata == {"role": "RUN", "required_role": "ADMIN"}
    assert caller() is STRANGER
    calls = [line for line in log_lines if line["event"] == "call"]
    assert [line.get("client") for line in calls] == ["admin", "run", None]
    assert not any(secret in str(log_lines) for secret in door.tokens.values())
    assert not any(one.sha256 in str(log_lines) for one in door.files.listed().tokens)


async def test_where_no_token_is_asked_for_everybody_is_one_client_that_may_do_all() -> None:
    async def name(request: Any, context: Any) -> StringValue:
        return StringValue(value=f"{caller().name} {caller().role.name}")

    around = [ErrorInterceptor(), AuthInterceptor(Identities(None))]
    async with serving(around, {"Unary": name}) as echo:
        assert await echo.call("Unary") == ["default ADMIN"]
        metadata = [("authorization", "Bearer x"), ("deviceops-client", "ann")]
        assert await echo.call("Unary", metadata=metadata) == ["default ADMIN"]


class Held:
    """Behaviours that begin and do not end, and what became of them."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.ended: asyncio.Queue[str] = asyncio.Queue()

    async def unary(self, request: Any, context: Any) -> StringValue:
        await self._hold()
        return StringValue()

    async def stream(self, request: Any, context: Any) -> AsyncIterator[StringValue]:
        yield StringValue(value="first")
        await self._hold()

    async def _hold(self) -> None:
        client = caller().name
        self.begun.put_nowait(client)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.put_nowait(client)

    @property
    def behaviours(self) -> dict[str, Any]:
        return {
            "Unary": self.unary,
            "ServerStream": self.stream,
            "ClientStream": self.unary,
            "Duplex": self.stream,
        }


@pytest.mark.parametrize("arity", ARITIES)
async def test_open_calls_of_a_revoked_token_end_and_no_others(door: Door, arity: str) -> None:
    held = Held()
    door.files.add("other", Role.ADMIN)
    door.tokens[Role.READ] = door.files.add("other2", Role.ADMIN)
    await door.identities.look()
    async with serving(door.interceptors, held.behaviours) as echo:
        mine = asyncio.ensure_future(echo.call(arity, metadata=door.metadata(Role.ADMIN)))
        theirs = asyncio.ensure_future(echo.call(arity, metadata=door.metadata(Role.READ)))
        assert {await held.begun.get(), await held.begun.get()} == {"admin", "other2"}

        await door.revoke(Role.ADMIN)
        what = await refused(mine)
        assert (what.code, what.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
        assert "revoked" in what.message
        assert await held.ended.get() == "admin"
        again = await refused(echo.call(arity, metadata=door.metadata(Role.ADMIN)))
        assert again.reason == "TOKEN_INVALID"
        assert not theirs.done()
        theirs.cancel()


async def test_a_name_that_is_given_again_does_not_keep_the_old_token_s_calls(
    door: Door,
) -> None:
    held = Held()
    async with serving(door.interceptors, held.behaviours) as echo:
        call = asyncio.ensure_future(echo.call("Unary", metadata=door.metadata()))
        await held.begun.get()
        door.files.revoke("admin")
        door.files.add("admin", Role.ADMIN)
        await door.identities.look()  # sees one change, and the same name before and after

        assert (await refused(call)).reason == "TOKEN_INVALID"


async def test_a_stream_that_is_not_read_ends_too_when_its_token_is_revoked(
    door: Door,
) -> None:
    ended = asyncio.Event()

    async def flood(request: Any, context: Any) -> AsyncIterator[StringValue]:
        try:
            while True:
                yield StringValue(value="x" * 2**20)
        finally:
            ended.set()

    log, errors, auth, requests = door.interceptors
    around = [log, errors, auth, StallInterceptor(60), requests]
    async with serving(around, {"ServerStream": flood}) as echo:
        unread = aiter(echo.start("ServerStream", metadata=door.metadata()))
        await anext(unread)
        await door.revoke(Role.ADMIN)
        await asyncio.wait_for(ended.wait(), 30)

        async def rest() -> None:
            async for _ in unread:
                pass

        assert (await refused(rest())).reason == "TOKEN_INVALID"


async def test_what_lies_around_a_revoked_call_is_not_cancelled_with_it(door: Door) -> None:
    held, left = Held(), []

    class Around(ErrorInterceptor):
        def wrap(self, handler: Any, method: str) -> Any:
            from server.interceptors import behaviour_of, with_behaviour

            inner = behaviour_of(handler)

            async def watched(request: Any, context: Any) -> Any:
                task = asyncio.current_task()
                assert task is not None
                try:
                    return await inner(request, context)
                finally:
                    left.append(task.cancelling())

            return with_behaviour(handler, watched)

    log, errors, auth, requests = door.interceptors
    async with serving([log, errors, Around(), auth, requests], held.behaviours) as echo:
        call = asyncio.ensure_future(echo.call("Unary", metadata=door.metadata()))
        await held.begun.get()
        await door.revoke(Role.ADMIN)
        await refused(call)
    assert left == [0]


async def test_ten_thousand_wrong_tokens_change_nothing(door: Door) -> None:
    """Two hundred of them in calls; what could remember them is asked for all."""
    async with serving(door.interceptors) as echo:
        for _ in range(2):
            answers = await asyncio.gather(
                *(
                    echo.call("Unary", metadata=[("authorization", f"Bearer {number:064}")])
                    for number in range(100)
                ),
                return_exceptions=True,
            )
            assert {told(error).reason for error in answers} == {"TOKEN_INVALID"}  # type: ignore[arg-type]
        for number in range(10_000):
            with pytest.raises(Exception, match="not this server's"):
                door.identities.identify([("authorization", f"Bearer {number:064}")], None)
        assert await echo.call("Unary", metadata=door.metadata()) == ["hi"]


async def test_a_token_of_odd_characters_or_of_a_megabyte_is_refused(door: Door) -> None:
    for presented in ("\x7f~", "ä", "\udcff", "x" * 2**20):
        with pytest.raises(Exception, match="not this server's"):
            door.identities.identify([("authorization", f"Bearer {presented}")], None)
    with pytest.raises(Exception, match="must begin"):
        door.identities.identify([("authorization", b"\xff\xfe")], None)
    async with serving(door.interceptors) as echo:
        huge = [("authorization", f"Bearer {'x' * 2**20}")]
        with pytest.raises(grpc.aio.AioRpcError):
            await echo.call("Unary", metadata=huge)
        assert await echo.call("Unary", metadata=door.metadata()) == ["hi"]
