"""What the server serves: eight servicers with a common start and stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import grpc.aio

from deviceops.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    memory_pb2,
    memory_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    postprocessing_pb2,
    postprocessing_pb2_grpc,
    processing_pb2,
    processing_pb2_grpc,
    system_pb2,
    system_pb2_grpc,
)

if TYPE_CHECKING:
    from server.config import Settings

SERVICE_NAMES: tuple[str, ...] = tuple(
    f"{file.DESCRIPTOR.package}.{service}"
    for file in (
        device_pb2,
        memory_pb2,
        model_pb2,
        processing_pb2,
        inference_pb2,
        postprocessing_pb2,
        artifact_pb2,
        system_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name
)


class App(Protocol):
    """The composed domains, as `server.compose.Composition` has them."""

    @property
    def device(self) -> device_pb2_grpc.DeviceServiceServicer: ...
    @property
    def memory(self) -> memory_pb2_grpc.MemoryServiceServicer: ...
    @property
    def model(self) -> model_pb2_grpc.ModelServiceServicer: ...
    @property
    def processing(self) -> processing_pb2_grpc.ProcessingServiceServicer: ...
    @property
    def inference(self) -> inference_pb2_grpc.InferenceServiceServicer: ...
    @property
    def postprocessing(self) -> postprocessing_pb2_grpc.PostprocessingServiceServicer: ...
    @property
    def artifact(self) -> artifact_pb2_grpc.ArtifactServiceServicer: ...
    @property
    def system(self) -> system_pb2_grpc.SystemServiceServicer: ...

    async def start(self) -> None:
        """Get ready to answer calls; anything slow goes on in the background.

        The port is bound and no call has been taken yet. An exception ends the server,
        after `stop(0)`.
        """

    def drain(self) -> None:
        """No new calls come from now on; those that are open go on, and `stop` follows."""

    async def stop(self, grace_seconds: float) -> None:
        """Let running work end within the grace, then end it; keep what must survive.

        The streams of running work are still open, and end only after this returns: what
        they do then is not a client's wish to cancel. May be cancelled, and is then
        called again with a grace of 0.
        """


Compose = Callable[["Settings"], App]


def add_services(app: App, server: grpc.aio.Server) -> None:
    """Register the eight servicers."""
    device_pb2_grpc.add_DeviceServiceServicer_to_server(app.device, server)
    memory_pb2_grpc.add_MemoryServiceServicer_to_server(app.memory, server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(app.model, server)
    processing_pb2_grpc.add_ProcessingServiceServicer_to_server(app.processing, server)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(app.inference, server)
    postprocessing_pb2_grpc.add_PostprocessingServiceServicer_to_server(
        app.postprocessing, server
    )
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(app.artifact, server)
    system_pb2_grpc.add_SystemServiceServicer_to_server(app.system, server)
