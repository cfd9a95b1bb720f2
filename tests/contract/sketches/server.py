"""A server that answers the sketches with scripted, plausible streams.

It holds what a real one would hold for the length of a test, records what it was sent, and
speaks over a real channel; nothing in it computes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc.code_pb2 import NOT_FOUND  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]

from deviceops.v1 import common_pb2 as common
from deviceops.v1 import device_pb2 as device
from deviceops.v1 import device_pb2_grpc as device_grpc
from deviceops.v1 import inference_pb2 as inference
from deviceops.v1 import inference_pb2_grpc as inference_grpc
from deviceops.v1 import memory_pb2 as memory
from deviceops.v1 import memory_pb2_grpc as memory_grpc
from deviceops.v1 import model_pb2 as model
from deviceops.v1 import model_pb2_grpc as model_grpc
from deviceops.v1 import postprocessing_pb2 as postprocessing
from deviceops.v1 import postprocessing_pb2_grpc as postprocessing_grpc
from deviceops.v1 import processing_pb2 as processing
from deviceops.v1 import processing_pb2_grpc as processing_grpc
from deviceops.v1 import session_pb2 as session
from tests.contract.sketches.streams import Log, generation, image_of, picture

Context = grpc.aio.ServicerContext[Message, Message]


class Devices(device_grpc.DeviceServiceServicer):
    """One ready device and one that cannot be used."""

    async def ListDevices(
        self, request: device.ListDevicesRequest, context: Context
    ) -> device.ListDevicesResponse:
        return device.ListDevicesResponse(
            devices=[
                device.Device(
                    device_id="cpu:0", state=device.DEVICE_STATE_READY, is_default=True
                ),
                device.Device(
                    device_id="cuda:0",
                    state=device.DEVICE_STATE_UNAVAILABLE,
                    explanation="The driver is too old.",
                ),
            ],
            default_device_id="cpu:0",
        )


class Models(model_grpc.ModelServiceServicer):
    """Loads with progress, imports in parts."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.announced = model.ImportModelHeader()

    async def LoadModel(
        self, request: model.LoadModelRequest, context: Context
    ) -> AsyncIterator[model.LoadModelResponse]:
        log = Log("load-1")
        loaded = model.LoadedModel(device_id="cpu:0", unet_data_type=common.DATA_TYPE_FLOAT32)
        yield model.LoadModelResponse(
            event=log.entry(accepted=session.SessionAccepted(device_id="cpu:0"))
        )
        for item, total in (("unet", 400), ("vae", 100)):
            for done in (total // 2, total):
                moved = session.TransferProgress(item=item, done_bytes=done, total_bytes=total)
                yield model.LoadModelResponse(event=log.entry(transfer_progress=moved))
        yield model.LoadModelResponse(loaded=loaded)
        report = Any()
        report.Pack(loaded)
        yield model.LoadModelResponse(
            event=log.entry(completed=session.SessionCompleted(report=report))
        )

    async def GetModel(
        self, request: model.GetModelRequest, context: Context
    ) -> model.GetModelResponse:
        info = ErrorInfo(
            reason="MODEL_NOT_FOUND",
            domain="deviceops",
            metadata={"received_bytes": str(len(self.received))},
        )
        detail = Any()
        detail.Pack(info)
        status = Status(code=NOT_FOUND, message="There is no such model.", details=[detail])
        await context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort raises")

    async def ImportModel(
        self, request_iterator: AsyncIterator[model.ImportModelRequest], context: Context
    ) -> model.ImportModelResponse:
        async for request in request_iterator:
            match request.WhichOneof("part"):
                case "header":
                    self.announced = request.header
                case "data":
                    self.received += request.data
                case "completion_sha256":
                    digest = hashlib.sha256(self.received).hexdigest()
                    if digest != request.completion_sha256:
                        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong hash")
        return model.ImportModelResponse(
            model=model.Model(model_id=self.announced.model_id, size_bytes=len(self.received))
        )


class Inference(inference_grpc.InferenceServiceServicer):
    """Draws; loses the connection or waits for a cancel when told to."""

    def __init__(self) -> None:
        self.requests: list[inference.GenerateRequest] = []
        self.content = picture(seed=42)
        self.lose_at: int | None = None
        self.wait_at: int | None = None
        self.cancelled = asyncio.Event()
        self.log = Log("generation-1")

    async def Generate(
        self, request: inference.GenerateRequest, context: Context
    ) -> AsyncIterator[inference.GenerateResponse]:
        self.requests.append(request)
        events = generation(self.log, request.settings.steps, self.content)
        for number, event in enumerate(events):
            if number == self.lose_at:
                # The session goes on without its reader.
                for _ in events:
                    continue
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection is gone")
            yield inference.GenerateResponse(event=event)
            if number == self.wait_at:
                await self.cancelled.wait()
                last = session.SessionCancelled(
                    reason=common.ERROR_REASON_CANCELLED_BY_CLIENT,
                    phase=session.PHASE_DENOISING,
                )
                yield inference.GenerateResponse(event=self.log.entry(cancelled=last))
                await context.abort(grpc.StatusCode.CANCELLED, "cancelled by the client")


class Processing(processing_grpc.ProcessingServiceServicer):
    """Watches what Inference draws, runs batches and a fan-out."""

    def __init__(self, drawing: Inference) -> None:
        self.drawing = drawing
        self.batch = processing.CreateBatchRequest()
        self.failing = {"item-7", "item-13"}
        self.watched_from: list[int] = []

    async def ControlSession(
        self, request: processing.ControlSessionRequest, context: Context
    ) -> processing.ControlSessionResponse:
        if request.session_id != self.drawing.log.session_id:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such session.")
        self.drawing.cancelled.set()
        return processing.ControlSessionResponse(
            session=session.Session(
                session_id=request.session_id, state=session.SESSION_STATE_CANCELLING
            )
        )

    async def WatchSession(
        self, request: processing.WatchSessionRequest, context: Context
    ) -> AsyncIterator[processing.WatchSessionResponse]:
        self.watched_from.append(request.from_sequence)
        for event in self.drawing.log.events:
            chunk = event.WhichOneof("event") == "image_chunk"
            # A picture's chunks come before the entry that they belong to.
            if event.sequence + chunk >= request.from_sequence:
                yield processing.WatchSessionResponse(event=event)

    async def CreateBatch(
        self, request: processing.CreateBatchRequest, context: Context
    ) -> processing.CreateBatchResponse:
        self.batch = request
        return processing.CreateBatchResponse(
            batch=processing.Batch(batch_id="batch-1", item_count=len(request.items))
        )

    async def WatchBatch(
        self, request: processing.WatchBatchRequest, context: Context
    ) -> AsyncIterator[processing.WatchBatchResponse]:
        log = Log("batch-session-1")
        yield processing.WatchBatchResponse(
            event=log.entry(accepted=session.SessionAccepted(kind=session.SESSION_KIND_BATCH))
        )
        for number, item in enumerate(self.batch.items):
            finished = session.ItemFinished(
                item_id=item.item_id, done_count=number + 1, total_count=len(self.batch.items)
            )
            if item.item_id in self.failing:
                finished.failure.reason = common.ERROR_REASON_NON_FINITE_OUTPUT
            else:
                finished.images.append(image_of(item.settings.prompt.encode()))
            event = log.entry(item_finished=finished)
            event.item_id = item.item_id
            yield processing.WatchBatchResponse(event=event)
        yield processing.WatchBatchResponse(
            event=log.entry(completed=session.SessionCompleted())
        )

    async def ControlBatch(
        self, request: processing.ControlBatchRequest, context: Context
    ) -> processing.ControlBatchResponse:
        if request.action != processing.CONTROL_ACTION_RETRY_FAILED:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "The batch has ended.")
        again = [item for item in self.batch.items if item.item_id in self.failing]
        self.failing = set()
        del self.batch.items[:]
        self.batch.items.extend(again)
        return processing.ControlBatchResponse(batch=processing.Batch(batch_id="batch-1"))

    async def RunWorkflow(
        self, request: processing.RunWorkflowRequest, context: Context
    ) -> AsyncIterator[processing.RunWorkflowResponse]:
        draw, enlarge = request.workflow.steps
        count = draw.generate.settings.image_count
        run = Log("workflow-1")
        child = Log("child-1")
        subject = request.arguments["subject"].text
        drawn = [image_of(f"{subject} {k}".encode(), k) for k in range(count)]
        yield processing.RunWorkflowResponse(
            event=run.entry(
                accepted=session.SessionAccepted(kind=session.SESSION_KIND_WORKFLOW)
            )
        )
        yield processing.RunWorkflowResponse(
            step_id=draw.step_id,
            event=child.entry(completed=session.SessionCompleted(images=drawn)),
        )
        results = []
        for index in range(count):
            result = image_of(f"{subject} {index} large".encode(), index)
            results.append(result)
            yield processing.RunWorkflowResponse(
                step_id=enlarge.step_id,
                run_index=index,
                event=Log(f"child-{index + 2}").entry(
                    completed=session.SessionCompleted(images=[result])
                ),
            )
        yield processing.RunWorkflowResponse(
            event=run.entry(completed=session.SessionCompleted(images=results))
        )


class Postprocessing(postprocessing_grpc.PostprocessingServiceServicer):
    """Finishes a picture and gives its verdict."""

    def __init__(self) -> None:
        self.requests: list[postprocessing.ProcessRequest] = []

    async def Process(
        self, request: postprocessing.ProcessRequest, context: Context
    ) -> AsyncIterator[postprocessing.ProcessResponse]:
        self.requests.append(request)
        log = Log("process-1")
        score = session.SafetyScore(category="nsfw", score=0.01, threshold=0.5)
        done = image_of(b"large", format=request.output.format, width=4096, height=4096)
        done.safety.CopyFrom(
            session.SafetyVerdict(
                scores=[score],
                action=session.SAFETY_ACTION_ALLOW,
                policy_id=request.steps[2].safety.policy_id,
                policy_version=1,
            )
        )
        for event in (
            log.entry(accepted=session.SessionAccepted()),
            log.entry(item_finished=session.ItemFinished(item_id="tile", total_count=1)),
            log.entry(image_finished=session.ImageFinished(image=done)),
            log.entry(completed=session.SessionCompleted(images=[done])),
        ):
            yield postprocessing.ProcessResponse(event=event)


class Memory(memory_grpc.MemoryServiceServicer):
    """Evicts one model."""

    async def OptimizeModelMemory(
        self, request: memory.OptimizeModelMemoryRequest, context: Context
    ) -> AsyncIterator[memory.OptimizeModelMemoryResponse]:
        log = Log("memory-1")
        after = common.ByteFigure(
            value_bytes=request.target_free_bytes,
            quality=common.FIGURE_QUALITY_MEASURED,
            source="torch.cuda.mem_get_info",
        )
        report = memory.ModelEvictionReport(
            evicted=[memory.ComponentMemory(model_id="old", component="unet")],
            free_after=after,
            target_reached=True,
        )
        accepted = session.SessionAccepted(device_id=request.place.device_id)
        yield memory.OptimizeModelMemoryResponse(event=log.entry(accepted=accepted))
        yield memory.OptimizeModelMemoryResponse(report=report)
        packed = Any()
        packed.Pack(report)
        completed = session.SessionCompleted(report=packed)
        yield memory.OptimizeModelMemoryResponse(event=log.entry(completed=completed))


class Scripted:
    """The services of one test. What no sketch calls answers UNIMPLEMENTED."""

    def __init__(self) -> None:
        self.devices = Devices()  # type: ignore[abstract]
        self.models = Models()  # type: ignore[abstract]
        self.inference = Inference()  # type: ignore[abstract]
        self.processing = Processing(self.inference)  # type: ignore[abstract]
        self.postprocessing = Postprocessing()  # type: ignore[abstract]
        self.memory = Memory()  # type: ignore[abstract]

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """Serve on a free port and connect with gRPC's default limits."""
        server = grpc.aio.server()
        device_grpc.add_DeviceServiceServicer_to_server(self.devices, server)
        model_grpc.add_ModelServiceServicer_to_server(self.models, server)
        inference_grpc.add_InferenceServiceServicer_to_server(self.inference, server)
        processing_grpc.add_ProcessingServiceServicer_to_server(self.processing, server)
        postprocessing_grpc.add_PostprocessingServiceServicer_to_server(
            self.postprocessing, server
        )
        memory_grpc.add_MemoryServiceServicer_to_server(self.memory, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield channel
        finally:
            await server.stop(grace=None)
