"""Services that say what a test scripts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import grpc

from deviceops.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    batch_pb2,
    device_pb2,
    device_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    memory_pb2,
    memory_pb2_grpc,
    model_cache_pb2,
    model_pb2,
    model_pb2_grpc,
    model_task_pb2,
    postprocessing_pb2,
    postprocessing_pb2_grpc,
    processing_pb2,
    processing_pb2_grpc,
    session_pb2,
    system_pb2_grpc,
    upload_pb2,
)
from tests.server.cli.messages import not_built, refuse

if TYPE_CHECKING:
    from tests.server.cli.scripted import ScriptedServer


def add_services(script: ScriptedServer, server: grpc.Server) -> None:
    """Let `server` answer as `script` says."""
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(Artifacts(script), server)
    device_pb2_grpc.add_DeviceServiceServicer_to_server(Devices(script), server)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(Inference(script), server)
    memory_pb2_grpc.add_MemoryServiceServicer_to_server(Memory(script), server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(Models(script), server)
    processing_pb2_grpc.add_ProcessingServiceServicer_to_server(Processing(script), server)
    postprocessing_pb2_grpc.add_PostprocessingServiceServicer_to_server(
        Postprocessing(script), server
    )
    system_pb2_grpc.add_SystemServiceServicer_to_server(System(script), server)


class Inference(inference_pb2_grpc.InferenceServiceServicer):
    def __init__(self, script: ScriptedServer) -> None:
        self._script = script

    def Generate(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.on_generate(request, context):
            yield inference_pb2.GenerateResponse(event=entry)

    def GenerateBatch(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.on_batch(request, context):
            yield inference_pb2.GenerateBatchResponse(event=entry)

    def ValidateGeneration(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return self._script.verdict

    def GetInferenceStatistics(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return self._script.statistics

    def VerifyImage(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        if self._script.marks is None:
            return not_built(context, "VerifyImage")
        self._script.on_control(request, context)
        return self._script.marks


class Processing(processing_pb2_grpc.ProcessingServiceServicer):
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

    def WatchSessions(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        yield from self._script.on_changes(request, context)

    def ListQueue(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        waiting = self._script.sessions
        return processing_pb2.ListQueueResponse(
            sessions=waiting, total_count=len(waiting) + self._script.others_waiting
        )

    def CreateBatch(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return batch_pb2.CreateBatchResponse(batch=batch_pb2.Batch(batch_id="bat-1"))

    def AddBatchItems(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        self._script.on_control(request, context)
        return batch_pb2.AddBatchItemsResponse(batch=batch_pb2.Batch(batch_id="bat-1"))

    def ListBatches(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        first, end = self._page(request, self._script.batch_count)
        return batch_pb2.ListBatchesResponse(
            batches=[batch_pb2.Batch(batch_id=f"bat-{at}") for at in range(first, end)],
            next_page_token=str(end) if end < self._script.batch_count else "",
        )

    def GetBatch(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        first, end = self._page(request, self._script.batch_count)
        return batch_pb2.GetBatchResponse(
            batch=batch_pb2.Batch(batch_id=request.batch_id),
            items=[batch_pb2.BatchItemStatus(item_id=f"i{at}") for at in range(first, end)],
            next_page_token=str(end) if end < self._script.batch_count else "",
        )

    def _page(self, request: Any, count: int) -> tuple[int, int]:
        first = int(request.page_token or 0)
        return first, min(first + request.page_size, count)

    def PauseSession(self, request: Any, context: Any) -> Any:
        session = self._controlled(request, context, session_pb2.SESSION_STATE_PAUSING)
        return processing_pb2.PauseSessionResponse(session=session)

    def ResumeSession(self, request: Any, context: Any) -> Any:
        session = self._controlled(request, context, session_pb2.SESSION_STATE_QUEUED)
        return processing_pb2.ResumeSessionResponse(session=session)

    def CancelSession(self, request: Any, context: Any) -> Any:
        session = self._controlled(request, context, session_pb2.SESSION_STATE_CANCELLING)
        return processing_pb2.CancelSessionResponse(session=session)

    def CancelSessions(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return processing_pb2.CancelSessionsResponse(cancelled_count=3)

    def UpdateSession(self, request: Any, context: Any) -> Any:
        session = self._controlled(request, context, session_pb2.SESSION_STATE_QUEUED)
        return processing_pb2.UpdateSessionResponse(session=session)

    def _controlled(self, request: Any, context: Any, state: Any) -> session_pb2.Session:
        self._script.came(request, context)
        self._script.on_control(request, context)
        return session_pb2.Session(session_id=request.session_id, state=state)


class Postprocessing(postprocessing_pb2_grpc.PostprocessingServiceServicer):
    def __init__(self, script: ScriptedServer) -> None:
        self._script = script

    def ListPostprocessors(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return self._script.postprocessors

    def BenchmarkPostprocessor(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.loading:
            yield postprocessing_pb2.BenchmarkPostprocessorResponse(event=entry)

    def ProcessImage(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.on_generate(request, context):
            yield postprocessing_pb2.ProcessImageResponse(event=entry)

    def GetPostprocessingStatistics(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return self._script.step_statistics


class Devices(device_pb2_grpc.DeviceServiceServicer):
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
        for entry in self._script.optimization:
            yield device_pb2.OptimizeDeviceResponse(event=entry)

    def RestartWorker(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.restart:
            yield device_pb2.RestartWorkerResponse(event=entry)


class Memory(memory_pb2_grpc.MemoryServiceServicer):
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

    def DeleteAllocation(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for one in self._script.allocations.allocations:
            if one.allocation_id == request.allocation_id:
                return memory_pb2.DeleteAllocationResponse(freed_bytes=one.size_bytes)
        return refuse(context, grpc.StatusCode.NOT_FOUND, "It is gone.", "ALLOCATION_NOT_FOUND")


class Models(model_pb2_grpc.ModelServiceServicer):
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

    def LoadModel(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.loading:
            yield model_pb2.LoadModelResponse(event=entry)

    def UnloadModel(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.loading:
            yield model_pb2.UnloadModelResponse(event=entry)

    def ValidateModel(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.loading:
            yield model_task_pb2.ValidateModelResponse(event=entry)

    def ConvertModel(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.loading:
            yield model_task_pb2.ConvertModelResponse(event=entry)

    def OptimizeModel(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.loading:
            yield model_task_pb2.OptimizeModelResponse(event=entry)

    def BenchmarkModel(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.loading:
            yield model_task_pb2.BenchmarkModelResponse(event=entry)

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return self._script.model_status

    def CacheModel(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        for entry in self._script.loading:
            yield model_cache_pb2.CacheModelResponse(event=entry)

    def EvictModel(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        cached = {entry.model_id: entry.size_bytes for entry in self._script.cache.entries}
        return model_cache_pb2.EvictModelResponse(freed_bytes=cached.get(request.model_id, 0))

    def GetCacheStatus(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return self._script.cache

    def SetCacheBudget(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return model_cache_pb2.SetCacheBudgetResponse(cache=self._script.cache)


class Artifacts(artifact_pb2_grpc.ArtifactServiceServicer):
    """Keeps what is sent; transfers break off where the script says so."""

    def __init__(self, script: ScriptedServer) -> None:
        self._script = script

    def UploadArtifact(self, requests: Any, context: Any) -> Any:
        header = next(requests).header
        self._script.came(header, context)
        self._script.on_upload(context)
        upload = header.upload
        if upload.sha256 in self._script.artifacts:
            return self._stored(upload.sha256, existed=True)
        come = self._script.uploads.setdefault(upload.upload_id, bytearray())
        if upload.offset_bytes != len(come):
            code = grpc.StatusCode.OUT_OF_RANGE
            return refuse(context, code, "Not there.", "OFFSET_OUT_OF_RANGE")
        end = self._script.breaks.pop(0) if self._script.breaks else None
        for message in requests:
            come += message.data
            if end is not None and len(come) >= end:
                del come[end:]
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        if hashlib.sha256(come).hexdigest() != upload.sha256:
            code = grpc.StatusCode.INVALID_ARGUMENT
            return refuse(context, code, "Other bytes came.", "CHECKSUM_MISMATCH")
        self._script.artifacts[upload.sha256] = bytes(come)
        return self._stored(upload.sha256, existed=False)

    def GetUpload(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        come = self._script.uploads.get(request.upload_id)
        if come is None:
            code = grpc.StatusCode.NOT_FOUND
            return refuse(context, code, "There is no such upload.", "UPLOAD_NOT_FOUND")
        upload = upload_pb2.Upload(upload_id=request.upload_id, received_bytes=len(come))
        return artifact_pb2.GetUploadResponse(upload=upload)

    def DownloadArtifact(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        data = self._script.artifacts.get(request.artifact_id)
        if data is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, "No artifact.", "ARTIFACT_NOT_FOUND")
            return
        end = self._script.breaks.pop(0) if self._script.breaks else None
        for offset in range(request.offset_bytes, len(data), 50):
            if end is not None and offset >= end:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            yield artifact_pb2.DownloadArtifactResponse(
                offset_bytes=offset, total_bytes=len(data), data=data[offset : offset + 50]
            )

    def GetArtifact(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        if request.artifact_id not in self._script.artifacts:
            code = grpc.StatusCode.NOT_FOUND
            return refuse(context, code, "No artifact.", "ARTIFACT_NOT_FOUND")
        return artifact_pb2.GetArtifactResponse(artifact=self._described(request.artifact_id))

    def GetThumbnail(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        return artifact_pb2.GetThumbnailResponse(
            data=b"small", width=64, height=48, media_type="image/webp"
        )

    def ListArtifacts(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        found = sorted(self._script.artifacts)[: request.page_size]
        return artifact_pb2.ListArtifactsResponse(artifacts=map(self._described, found))

    def UpdateArtifact(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        artifact = self._described(request.artifact_id)
        artifact.pinned = request.pinned
        artifact.labels.update(request.labels)
        return artifact_pb2.UpdateArtifactResponse(artifact=artifact)

    def DeleteArtifact(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        del self._script.artifacts[request.artifact_id]
        return artifact_pb2.DeleteArtifactResponse()

    def _stored(self, artifact_id: str, *, existed: bool) -> Any:
        artifact = self._described(artifact_id)
        return artifact_pb2.UploadArtifactResponse(artifact=artifact, existed=existed)

    def _described(self, artifact_id: str) -> artifact_pb2.Artifact:
        size = len(self._script.artifacts[artifact_id])
        return artifact_pb2.Artifact(
            artifact_id=artifact_id, size_bytes=size, media_type="image/png", owner="ann"
        )


class System(system_pb2_grpc.SystemServiceServicer):
    """A server that says what it is, or an older one that cannot."""

    def __init__(self, script: ScriptedServer) -> None:
        self._script = script

    def GetServerInfo(self, request: Any, context: Any) -> Any:
        self._script.came(request, context)
        if self._script.info is None:
            return not_built(context, "GetServerInfo")
        return self._script.info
