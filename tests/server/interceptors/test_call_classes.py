"""Every RPC of the contract has a class, and the one that its shape asks for."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default

from deviceops.v1 import event_pb2
from server.app import SERVICE_NAMES
from server.config import Settings
from server.interceptors.call_classes import CALL_CLASSES, CallClass, classify
from server.listen import limits, maximum, rooms

RPCS: dict[str, MethodDescriptor] = {
    f"/{service}/{method.name}": method
    for service in SERVICE_NAMES
    for method in Default().FindServiceByName(service).methods
}
# Answered in one message, but not before a device has done something.
WAITING = {
    "GetDeviceCapabilities",
    "CreateAllocation",
    "GetThumbnail",
    "VerifyImage",
}


def expected(method: MethodDescriptor) -> CallClass:
    """What the contract says of it."""
    if method.name.startswith("Watch"):
        return CallClass.WATCH
    event = method.output_type.fields_by_name.get("event")
    if event is not None and event.message_type is event_pb2.SessionEvent.DESCRIPTOR:
        return CallClass.SESSION
    streams = method.client_streaming or method.server_streaming
    return CallClass.WORK if streams or method.name in WAITING else CallClass.CONTROL


def test_the_table_names_the_rpcs_of_the_contract_and_no_others() -> None:
    assert {path.split("/")[1] for path in RPCS} == set(SERVICE_NAMES)
    assert set(CALL_CLASSES) == set(RPCS)


@pytest.mark.parametrize("path", sorted(RPCS))
def test_an_rpc_is_of_the_class_that_its_shape_asks_for(path: str) -> None:
    assert classify(path) is CALL_CLASSES[path] is expected(RPCS[path])


@pytest.mark.parametrize(
    "verb", ["List", "Search", "Get", "Pause", "Resume", "Cancel", "Update", "Delete"]
)
def test_looking_and_controlling_have_room_of_their_own(verb: str) -> None:
    found = {path for path, method in RPCS.items() if method.name.startswith(verb)}
    found -= {path for path, method in RPCS.items() if method.name in WAITING}

    assert found
    assert {CALL_CLASSES[path] for path in found} == {CallClass.CONTROL}


def test_what_stands_beside_the_contract_has_a_class_too() -> None:
    health = "/grpc.health.v1.Health"
    assert classify(f"{health}/Check") is CallClass.HEALTH
    assert classify(f"{health}/Watch") is CallClass.HEALTH_WATCH
    assert classify(f"{health}/Check", known=False) is CallClass.TOKENLESS
    assert classify(f"{health}/Watch", known=False) is CallClass.TOKENLESS_WATCH
    for version in ("v1", "v1alpha"):
        path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        assert classify(path) is CallClass.WATCH
    assert classify("/some.other.Service/Method") is CallClass.WORK


def test_with_the_defaults_a_full_queue_is_reached_and_one_connection_suffices() -> None:
    settings = Settings()

    assert settings.max_session_calls > settings.queue_length_per_device + 1
    assert settings.max_concurrent_streams > sum(limits(settings).values())


def test_every_class_has_a_limit_and_an_end_that_the_server_sets() -> None:
    settings = Settings()
    of = maximum(settings)

    assert set(limits(settings)) == set(rooms(settings)) == set(CallClass)
    # A stream of a session ends with the session, which has a timeout.
    assert [kind for kind in CallClass if of(kind, True) is None] == [CallClass.SESSION]
    for kind in (CallClass.TOKENLESS, CallClass.HEALTH, CallClass.CONTROL, CallClass.WORK):
        assert of(kind, False) is not None
