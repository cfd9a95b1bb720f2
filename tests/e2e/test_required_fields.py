"""What a request must have is what the table of limits says: without it the call is refused
with REQUIRED_FIELD_MISSING and the field's path, and with it never."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from domains.limits import LIMITS
from tests.contract.built import built_rpcs
from tests.contract.whole import complete
from tests.e2e.test_every_rpc import HARMLESS_RPCS, Rpc
from tests.e2e.test_limits import places
from tests.running import RunningServer

BUILT_RPCS = [
    rpc
    for rpc in HARMLESS_RPCS
    if f"{rpc.descriptor.containing_service.name}.{rpc.descriptor.name}" in built_rpcs()
]
# Of these one field or another must be set, which no table says.
EMPTY_IS_MISSING = ("FieldMask", "MemoryPlace", "SessionFilter")


def lacking(rpc: Rpc) -> Iterator[tuple[str, Message]]:
    """Each required field of a request, as refusals name it, and a request without it alone."""
    for steps in places(rpc.descriptor.input_type):
        field = steps[-1]
        if not LIMITS[f"{field.containing_type.name}.{field.name}"].required:
            continue
        path, at, message = _holder(rpc, steps)
        complete(message)
        at.ClearField(field.name)
        yield path, _copy(message)
        if field.message_type is not None and field.message_type.name in EMPTY_IS_MISSING:
            getattr(at, field.name).SetInParent()
            yield path, message


def _holder(rpc: Rpc, steps: tuple[Any, ...]) -> tuple[str, Any, Message]:
    """The path to a field, the message that holds it, and the request that holds that."""
    message = rpc.request_class()
    at: Any = message
    path = ""
    for step in steps[:-1]:
        path += f"{step.name}[0]." if step.is_repeated else f"{step.name}."
        at = getattr(at, step.name).add() if step.is_repeated else getattr(at, step.name)
        at.SetInParent()
    return path + steps[-1].name, at, message


def _copy(message: Message) -> Message:
    copy = GetMessageClass(message.DESCRIPTOR)()
    copy.CopyFrom(message)
    return copy


LACKING = {rpc.descriptor.name: list(lacking(rpc)) for rpc in BUILT_RPCS}


def test_most_of_what_is_built_needs_something() -> None:
    assert len([name for name, cases in LACKING.items() if cases]) > 20
    assert "request.settings.loras[0].model_id" in dict(LACKING["ValidateGeneration"])
    assert "header.upload.upload_id" in dict(LACKING["WriteAllocation"])


@pytest.mark.parametrize("rpc", BUILT_RPCS, ids=lambda rpc: rpc.descriptor.name)
async def test_a_required_field_that_is_missing_is_named(
    rpc: Rpc, server: RunningServer
) -> None:
    async with server.client() as client:
        for path, request in LACKING[rpc.descriptor.name]:
            told = await rpc.call(client.channel, server.token, request, longest=1)
            assert told.code is grpc.StatusCode.INVALID_ARGUMENT, path
            assert (told.reason, told.fields) == ("REQUIRED_FIELD_MISSING", [path])


@pytest.mark.parametrize("rpc", BUILT_RPCS, ids=lambda rpc: rpc.descriptor.name)
async def test_what_is_required_is_enough(rpc: Rpc, server: RunningServer) -> None:
    request = rpc.request_class()
    complete(request)
    async with server.client() as client:
        told = await rpc.call(client.channel, server.token, request, longest=1)
    assert told.reason != "REQUIRED_FIELD_MISSING", told
