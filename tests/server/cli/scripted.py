"""A server that speaks the real contract and says what a test scripts."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]
from PIL import Image

from deviceops.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    device_info_pb2,
    device_pb2,
    device_pb2_grpc,
    event_pb2,
    inference_pb2,
    inference_pb2_grpc,
    memory_pb2,
    memory_pb2_grpc,
    model_info_pb2,
    model_pb2,
    model_pb2_grpc,
    processing_pb2,
    processing_pb2_grpc,
    session_pb2,
)

Context = grpc.ServicerContext
Events = Callable[[Any, Context], Iterator[event_pb2.SessionEvent]]
SESSION = "ses-1"


def png(color: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    """A real picture."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, "PNG")
    return file.getvalue()


def jpeg(width: int = 64, height: int = 64) -> bytes:
    """A real preview: the upper half red, the lower half blue."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (0, height // 2, width, height))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def sha256(data: bytes) -> str:
    """The artifact id of `data`."""
    return hashlib.sha256(data).hexdigest()


def event(sequence: int, **content: Any) -> event_pb2.SessionEvent:
    """One event of the scripted session."""
    return event_pb2.SessionEvent(session_id=SESSION, sequence=sequence, **content)


def accepted(*seeds: int, steps: int = 4) -> event_pb2.SessionEvent:
    """The first entry."""
    return event(
        1,
        accepted=event_pb2.SessionAccepted(
            kind=session_pb2.SESSION_KIND_GENERATION,
            device_id="cpu:0",
            queue_position=2,
            seeds=seeds,
            steps=steps,
        ),
    )


def result(data: bytes, index: int = 0, seed: int = 7, **changes: Any) -> Any:
    """The picture's entry in results; `changes` replace fields."""
    fields: dict[str, Any] = {
        "image_index": index,
        "seed": seed,
        "artifact_id": sha256(data),
        "format": 1,
        "width": 8,
        "height": 8,
        "size_bytes": len(data),
    }
    return session_pb2.ImageResult(**(fields | changes))


def chunks(
    sequence: int, data: bytes, index: int = 0, size: int = 40
) -> Iterator[event_pb2.SessionEvent]:
    """The picture's bytes."""
    for offset in range(0, len(data), size):
        chunk = event_pb2.ImageChunk(
            image_index=index,
            offset_bytes=offset,
            total_bytes=len(data),
            data=data[offset : offset + size],
        )
        yield event(sequence, image_chunk=chunk)


def completed(sequence: int, *images: Any) -> event_pb2.SessionEvent:
    """The last entry of a session that worked."""
    done = event_pb2.SessionCompleted(images=images, device_id="cpu:0")
    done.timings.total.FromMilliseconds(1500)
    done.degradations.add(kind=1, detail="The VAE ran in tiles.")
    return event(sequence, completed=done)


def whole(data: bytes, **changes: Any) -> Iterator[event_pb2.SessionEvent]:
    """A session that draws one picture; `changes` replace fields of its result."""
    image = result(data, **changes)
    yield accepted(image.seed)
    yield event(1, queue_moved=event_pb2.QueueMoved(queue_position=1))
    yield event(2, phase_started=event_pb2.PhaseStarted(phase=session_pb2.PHASE_DENOISING))
    for step in range(1, 5):
        done = event_pb2.StepFinished(image_index=0, step=step, steps=4)
        yield event(2 + step, step_finished=done)
        preview = event_pb2.Preview(step=step, width=64, height=64, jpeg=jpeg())
        yield event(2 + step, preview=preview)
    yield from chunks(6, data)
    yield event(7, image_finished=event_pb2.ImageFinished(image=image))
    yield completed(8, image)


def refuse(
    context: Context,
    code: grpc.StatusCode,
    message: str,
    reason: str,
    *details: Message,
    **facts: str,
) -> Any:
    """End the call as the server's error interceptor does."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="deviceops", metadata=facts)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in (info, *details):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    context.abort_with_status(rpc_status.to_status(status))


class ScriptedServer:
    """Set `on_*` to script an RPC; read `requests` and `metadata` for what came in."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.on_generate: Events = lambda request, context: iter(())
        self.on_watch: Events = lambda request, context: iter(())
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
        self.optimization: list[device_pb2.OptimizeDeviceResponse] = []
        self.restart: list[event_pb2.SessionEvent] = []
        self.models: list[model_info_pb2.ModelInfo] = []
        self.left_out: list[str] = []
        self.sessions: list[session_pb2.Session] = []
        self.artifacts: dict[str, bytes] = {}
        self.health = health.HealthServicer()
        self._server = grpc.server(ThreadPoolExecutor(8))
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(
            _Inference(self), self._server
        )
        processing_pb2_grpc.add_ProcessingServiceServicer_to_server(
            _Processing(self), self._server
        )
        device_pb2_grpc.add_DeviceServiceServicer_to_server(_Devices(self), self._server)
        memory_pb2_grpc.add_MemoryServiceServicer_to_server(_Memory(self), self._server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(_Models(self), self._server)
        artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(_Artifacts(self), self._server)
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


class _Inference(inference_pb2_grpc.InferenceServiceServicer):
    def __init__(self, script: ScriptedServer) -> None:
        self._script = script

    def Generate(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.on_generate(request, context):
            yield inference_pb2.GenerateResponse(event=entry)


class _Processing(processing_pb2_grpc.ProcessingServiceServicer):
    def __init__(self, script: ScriptedServer) -> None:
        self._script = script

    def ListSessions(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        first = int(request.page_token or 0)
        end = first + min(request.page_size, 2)  # a server may end a page early
        return processing_pb2.ListSessionsResponse(
            sessions=self._script.sessions[first:end],
            next_page_token=str(end) if end < len(self._script.sessions) else "",
        )

    def GetSession(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for session in self._script.sessions:
            if session.session_id == request.session_id:
                return processing_pb2.GetSessionResponse(session=session)
        return refuse(
            context, grpc.StatusCode.NOT_FOUND, "There is no such session.", "SESSION_NOT_FOUND"
        )

    def WatchSession(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.on_watch(request, context):
            yield processing_pb2.WatchSessionResponse(event=entry)

    def ControlSession(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        self._script.on_control(request, context)
        session = session_pb2.Session(
            session_id=request.session_id, state=session_pb2.SESSION_STATE_CANCELLING
        )
        return processing_pb2.ControlSessionResponse(session=session)


class _Devices(device_pb2_grpc.DeviceServiceServicer):
    def __init__(self, script: ScriptedServer) -> None:
        self._script = script

    def ListDevices(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return self._script.device_list

    def GetDeviceStatus(self, request: Any, context: Any) -> Any:
        return self._script.device_statuses.get(
            request.device_id, device_pb2.GetDeviceStatusResponse()
        )

    def GetDeviceMemory(self, request: Any, context: Any) -> Any:
        memory = self._script.device_memory.get(request.device_id)
        return device_pb2.GetDeviceMemoryResponse(memory=memory)

    def GetDeviceCapabilities(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return self._script.capabilities

    def SetDefaultDevice(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for device in self._script.device_list.devices:
            if device.device_id == request.device_id:
                return device_pb2.SetDefaultDeviceResponse(device=device)
        return refuse(
            context, grpc.StatusCode.NOT_FOUND, "There is no such device.", "DEVICE_NOT_FOUND"
        )

    def WatchDevices(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        yield from self._script.device_events
        refuse(context, grpc.StatusCode.UNAVAILABLE, "The server ends.", "SHUTTING_DOWN")

    def OptimizeDevice(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        yield from self._script.optimization

    def RestartWorker(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.restart:
            yield device_pb2.RestartWorkerResponse(event=entry)


class _Memory(memory_pb2_grpc.MemoryServiceServicer):
    def __init__(self, script: ScriptedServer) -> None:
        self._script = script

    def GetMemoryStatus(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return memory_pb2.GetMemoryStatusResponse(status=self._script.memory_status)

    def GetMemoryPressure(self, request: Any, context: Any) -> Any:
        return memory_pb2.GetMemoryPressureResponse(pressures=self._script.pressures)

    def WatchMemory(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        yield from self._script.memory_readings
        refuse(
            context,
            grpc.StatusCode.UNAVAILABLE,
            "The server is shutting down.",
            "SHUTTING_DOWN",
        )

    def ListAllocations(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return self._script.allocations

    def Deallocate(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for one in self._script.allocations.allocations:
            if one.allocation_id == request.allocation_id:
                return memory_pb2.DeallocateResponse(freed_bytes=one.size_bytes)
        return refuse(context, grpc.StatusCode.NOT_FOUND, "It is gone.", "ALLOCATION_NOT_FOUND")


class _Models(model_pb2_grpc.ModelServiceServicer):
    """Two models a page, so that paging is seen to work."""

    def __init__(self, script: ScriptedServer) -> None:
        self._script = script

    def ListModels(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        first = int(request.page_token or 0)
        more = first + 2 < len(self._script.models)
        return model_pb2.ListModelsResponse(
            models=self._script.models[first : first + 2],
            next_page_token=str(first + 2) if more else "",
            total_count=len(self._script.models),
            problems=self._script.left_out,
        )

    def GetModel(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for model in self._script.models:
            if model.model_id == request.model_id:
                return model_pb2.GetModelResponse(model=model)
        return refuse(
            context, grpc.StatusCode.NOT_FOUND, "There is no such model.", "MODEL_NOT_FOUND"
        )


class _Artifacts(artifact_pb2_grpc.ArtifactServiceServicer):
    def __init__(self, script: ScriptedServer) -> None:
        self._script = script

    def DownloadArtifact(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        data = self._script.artifacts.get(request.artifact_id)
        if data is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, "No artifact.", "ARTIFACT_NOT_FOUND")
            return
        for offset in range(0, len(data), 50):
            yield artifact_pb2.DownloadArtifactResponse(
                offset_bytes=offset, total_bytes=len(data), data=data[offset : offset + 50]
            )
