"""A server that speaks the real contract and says what a test scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from deviceops.v1 import (
    device_info_pb2,
    device_pb2,
    event_pb2,
    inference_pb2,
    memory_pb2,
    model_cache_pb2,
    model_info_pb2,
    model_pb2,
    postprocessing_pb2,
    processing_pb2,
    session_pb2,
    system_pb2,
)
from tests.server.cli.messages import Context
from tests.server.cli.services import add_services

Events = Callable[[Any, Context], Iterator[event_pb2.SessionEvent]]
Changes = Callable[[Any, Context], Iterator[processing_pb2.WatchSessionsResponse]]


class ScriptedServer:
    """Set `on_*` to script an RPC; read `requests` and `metadata` for what came in."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.on_generate: Events = lambda request, context: iter(())
        self.on_batch: Events = lambda request, context: iter(())
        self.on_watch: Events = lambda request, context: iter(())
        self.on_changes: Changes = lambda request, context: iter(())
        self.on_upload: Callable[[Context], None] = lambda context: None
        self.on_control: Callable[[Any, Context], None] = lambda request, context: None
        self.device_list = device_pb2.ListDevicesResponse()
        self.device_statuses: dict[str, device_pb2.GetDeviceStatusResponse] = {}
        self.memory_status = memory_pb2.MemoryStatus()
        self.pressures: list[memory_pb2.MemoryPressure] = []
        self.memory_readings: list[memory_pb2.WatchMemoryResponse] = []
        self.allocations = memory_pb2.ListAllocationsResponse()
        self.device_memory: dict[str, device_info_pb2.DeviceMemory] = {}
        self.device_events: Iterable[device_pb2.WatchDevicesResponse] = []
        self.capabilities = device_pb2.GetDeviceCapabilitiesResponse()
        self.optimization: list[event_pb2.SessionEvent] = []
        self.loading: list[event_pb2.SessionEvent] = []
        self.restart: list[event_pb2.SessionEvent] = []
        self.models: list[model_info_pb2.ModelInfo] = []
        self.cache = model_cache_pb2.GetCacheStatusResponse()
        self.model_status = model_pb2.GetModelStatusResponse()
        self.left_out: list[str] = []
        self.sessions: list[session_pb2.Session] = []
        self.batch_count = 0  # of batches, and of each one's items
        self.others_waiting = 0  # sessions in the queue that the caller may not see
        self.artifacts: dict[str, bytes] = {}
        self.uploads: dict[str, bytearray] = {}  # what has arrived of those not finished
        self.breaks: list[int] = []  # bytes after which one transfer each breaks off
        self.info: system_pb2.GetServerInfoResponse | None = None
        self.marks: inference_pb2.VerifyImageResponse | None = None
        self.verdict = inference_pb2.ValidateGenerationResponse()
        self.postprocessors = postprocessing_pb2.ListPostprocessorsResponse()
        self.step_statistics = postprocessing_pb2.GetPostprocessingStatisticsResponse()
        self.statistics = inference_pb2.GetInferenceStatisticsResponse()
        self.health = health.HealthServicer()
        self._server = grpc.server(ThreadPoolExecutor(8))
        add_services(self, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def start(self) -> None:
        """Serve."""
        self._server.start()

    def stop(self) -> None:
        """End at once, open calls too."""
        self._server.stop(None).wait()

    def serving(self, *services: str) -> None:
        """Let health say so for these services."""
        for service in services:
            self.health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def came(self, request: Any, context: Context) -> None:
        """Keep what a call brought."""
        self.requests.append(request)
        pairs = context.invocation_metadata()
        self.metadata.append({key: value for key, value in pairs if isinstance(value, str)})

    def of_type(self, kind: type[Message]) -> list[Any]:
        """Requests of this type, in order."""
        return [request for request in self.requests if isinstance(request, kind)]
