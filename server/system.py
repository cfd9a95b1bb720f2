"""SystemService on the wire: what this server is, can and allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import system_pb2, system_pb2_grpc
from domains.clients import Role, caller
from domains.conversions import EnumMap, duration, limit_to_proto, timestamp
from domains.limits import LIMITS
from domains.rooms import Room
from server.config import Settings
from server.interceptors.call_classes import CallClass
from server.roles import least_role
from server.version import own_version

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

CONTRACT_VERSION = "deviceops.v1.2"
"""The package, and a number that grows with each edition."""
ROLES = EnumMap(Role, system_pb2.ClientRole, "CLIENT_ROLE_")
_SOFTWARE = ("grpcio", "protobuf", "msgspec", "pydantic")


@dataclass(frozen=True)
class Standing:
    """What changes while the server runs."""

    draining: Callable[[], bool]
    used_artifact_bytes: Callable[[], int]
    used_allocation_bytes: Callable[[str], int]
    """Of the client of that name."""


class SystemServicer(system_pb2_grpc.SystemServiceServicer):
    """Says what the server is; it changes nothing.

    Args:
        settings: What the operator chose.
        started: When the server was put together.
        standing: What changes while it runs.
        built: By method (`InferenceService.Generate`), whether it works.
        unbuilt_fields: Fields (`GenerationSettings.loras`) that are refused when set.
        upload_seconds: How long an unfinished upload is kept.
    """

    def __init__(
        self,
        settings: Settings,
        started: datetime,
        standing: Standing,
        *,
        built: Mapping[str, bool],
        unbuilt_fields: Iterable[str],
        upload_seconds: float,
    ) -> None:
        self._settings = settings
        self._standing = standing
        software = {name: version(name) for name in _SOFTWARE}
        self._fixed = system_pb2.GetServerInfoResponse(
            server_version=own_version(),
            contract_version=CONTRACT_VERSION,
            start_time=timestamp(started),
            features=_features(built, unbuilt_fields),
            limits=[limit_to_proto(limit) for limit in LIMITS.values()],
            retentions=_retentions(settings, upload_seconds),
            software_versions=software,
        )

    async def GetServerInfo(
        self, request: system_pb2.GetServerInfoRequest, context: Context
    ) -> system_pb2.GetServerInfoResponse:
        client = caller()
        result = system_pb2.GetServerInfoResponse()
        result.CopyFrom(self._fixed)
        result.draining = self._standing.draining()
        result.client_name = client.name
        result.client_role = ROLES.to_proto(client.role)
        result.quotas.CopyFrom(self._quotas(client.name))
        return result

    def _quotas(self, client: str) -> system_pb2.Quotas:
        settings = self._settings
        waiting = settings.queue_length_per_device
        return system_pb2.Quotas(
            artifact_bytes=settings.artifact_quota_bytes,
            used_artifact_bytes=self._standing.used_artifact_bytes(),
            allocation_bytes=settings.allocation_quota_bytes,
            used_allocation_bytes=self._standing.used_allocation_bytes(client),
            queue_length=waiting,
            queue_length_per_client=Room(waiting).share,
            open_calls={
                CallClass.CONTROL.value: settings.max_control_calls,
                CallClass.WORK.value: settings.max_concurrent_calls,
                CallClass.SESSION.value: settings.max_session_calls,
                CallClass.WATCH.value: settings.max_watch_calls,
            },
        )


def built_methods(servicers: Iterable[object]) -> Mapping[str, bool]:
    """By method, whether a servicer does more than what its generated base answers."""
    return {
        f"{base.__name__.removesuffix('Servicer')}.{name}": getattr(type(servicer), name)
        is not method
        for servicer in servicers
        for base in type(servicer).__mro__
        if base.__module__.endswith("_pb2_grpc")
        for name, method in vars(base).items()
        if callable(method)
    }


def _features(
    built: Mapping[str, bool], unbuilt_fields: Iterable[str]
) -> Iterator[system_pb2.BuiltFeature]:
    for name, works in sorted(built.items()):
        service, method = name.split(".")
        role = least_role(f"/deviceops.v1.{service}/{method}")
        yield system_pb2.BuiltFeature(name=name, built=works, role=ROLES.to_proto(role))
    for name in sorted(unbuilt_fields):
        yield system_pb2.BuiltFeature(name=name)


def _retentions(settings: Settings, upload_seconds: float) -> system_pb2.Retentions:
    return system_pb2.Retentions(
        sessions=duration(settings.session_retention_seconds),
        most_sessions=settings.sessions_kept,
        artifacts=duration(settings.artifact_retention_seconds),
        uploads=duration(upload_seconds),
        sessions_survive_restart=True,
        batches_survive_restart=True,
    )
