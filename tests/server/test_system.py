"""What the server says of itself is what it is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from deviceops.v1 import inference_pb2_grpc, processing_pb2_grpc, system_pb2
from domains.clients import Caller, Role, calling
from domains.limits import LIMITS
from server.config import Settings
from server.system import Standing, SystemServicer, built_methods

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)


class Drawing(inference_pb2_grpc.InferenceServiceServicer):  # type: ignore[misc]
    """Does one thing."""

    async def Generate(self, request: object, context: object) -> None: ...


class More(Drawing):
    """Does nothing beside what it has from above."""


class Fate:
    """What changes while the server runs."""

    draining = False
    used = 5


@pytest.fixture
def fate() -> Fate:
    return Fate()


@pytest.fixture
def servicer(settings: Settings, fate: Fate) -> SystemServicer:
    return SystemServicer(
        settings.model_copy(update={"queue_length_per_device": 9, "allocation_quota_bytes": 0}),
        NOON,
        Standing(
            draining=lambda: fate.draining,
            used_artifact_bytes=lambda: fate.used,
            used_allocation_bytes=len,
        ),
        built=built_methods([More(), processing_pb2_grpc.ProcessingServiceServicer()]),
        unbuilt_fields=["GenerationSettings.loras"],
        upload_seconds=600,
    )


async def asked(
    servicer: SystemServicer, name: str = "ann", role: Role = Role.READ
) -> system_pb2.GetServerInfoResponse:
    with calling(Caller(name, role)):
        return await servicer.GetServerInfo(system_pb2.GetServerInfoRequest(), None)


def test_what_a_servicer_does_itself_is_built() -> None:
    built = built_methods([More()])

    assert built["InferenceService.Generate"]
    assert not built["InferenceService.VerifyImage"]
    assert all(name.startswith("InferenceService.") for name in built)


async def test_every_part_is_told_with_the_role_that_it_needs(servicer: SystemServicer) -> None:
    features = {each.name: each for each in (await asked(servicer)).features}

    assert features["InferenceService.Generate"].built
    assert features["InferenceService.Generate"].role == system_pb2.CLIENT_ROLE_RUN
    assert not features["ProcessingService.RunWorkflow"].built
    assert features["ProcessingService.GetSession"].role == system_pb2.CLIENT_ROLE_READ
    assert not features["GenerationSettings.loras"].built
    assert features["GenerationSettings.loras"].role == system_pb2.CLIENT_ROLE_UNSPECIFIED


async def test_each_caller_hears_who_it_is_and_what_it_has(servicer: SystemServicer) -> None:
    ann, root = await asked(servicer), await asked(servicer, "root", Role.ADMIN)

    assert (ann.client_name, ann.client_role) == ("ann", system_pb2.CLIENT_ROLE_READ)
    assert (root.client_name, root.client_role) == ("root", system_pb2.CLIENT_ROLE_ADMIN)
    assert (ann.quotas.used_allocation_bytes, root.quotas.used_allocation_bytes) == (3, 4)


async def test_limits_retentions_and_quotas_are_those_that_hold(
    servicer: SystemServicer, settings: Settings, fate: Fate
) -> None:
    info = await asked(servicer)

    assert {limit.field for limit in info.limits} == set(LIMITS)
    assert info.start_time.ToDatetime(UTC) == NOON
    assert info.retentions.sessions.ToTimedelta().total_seconds() == (
        settings.session_retention_seconds
    )
    assert info.retentions.sessions_survive_restart
    assert info.retentions.batches_survive_restart
    assert info.retentions.uploads.seconds == 600
    assert (info.quotas.queue_length, info.quotas.queue_length_per_client) == (9, 4)
    assert info.quotas.HasField("allocation_bytes")
    assert info.quotas.allocation_bytes == 0
    assert info.quotas.open_calls["session"] == settings.max_session_calls
    assert info.quotas.used_artifact_bytes == 5


async def test_what_changes_is_looked_at_anew(servicer: SystemServicer, fate: Fate) -> None:
    before = await asked(servicer)
    fate.draining, fate.used = True, 7
    after = await asked(servicer)

    assert (before.draining, after.draining) == (False, True)
    assert after.quotas.used_artifact_bytes == 7


async def test_it_fits_into_a_message(servicer: SystemServicer) -> None:
    assert (await asked(servicer)).ByteSize() < 2**18
