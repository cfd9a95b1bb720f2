"""A server that answers sketches of what is not built with scripted, plausible streams.

It holds what a real one would hold for the length of a test, records what it was sent, and
speaks over a real channel; nothing in it computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
from google.protobuf.message import Message

from deviceops.v1 import artifact_pb2 as artifact
from deviceops.v1 import artifact_pb2_grpc as artifact_grpc
from deviceops.v1 import batch_pb2 as batch
from deviceops.v1 import errors_pb2 as errors
from deviceops.v1 import event_pb2 as events
from deviceops.v1 import finishing_pb2 as finishing
from deviceops.v1 import generation_pb2, upload_pb2
from deviceops.v1 import inference_pb2 as inference
from deviceops.v1 import inference_pb2_grpc as inference_grpc
from deviceops.v1 import model_info_pb2 as model_info
from deviceops.v1 import model_pb2_grpc as model_grpc
from deviceops.v1 import model_task_pb2 as model_task
from deviceops.v1 import postprocessing_pb2 as postprocessing
from deviceops.v1 import postprocessing_pb2_grpc as postprocessing_grpc
from deviceops.v1 import processing_pb2 as processing
from deviceops.v1 import processing_pb2_grpc as processing_grpc
from deviceops.v1 import session_pb2 as session
from deviceops.v1 import workflow_pb2 as workflow
from tests.contract.sketches.streams import Log, generation, image_of, picture

Context = grpc.aio.ServicerContext[Message, Message]


class Artifacts(artifact_grpc.ArtifactServiceServicer):
    """Takes one upload, which may have begun before."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.announced = upload_pb2.UploadHeader()

    async def GetUpload(
        self, request: artifact.GetUploadRequest, context: Context
    ) -> artifact.GetUploadResponse:
        if not self.received:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such upload.")
        return artifact.GetUploadResponse(
            upload=upload_pb2.Upload(
                upload_id=request.upload_id, received_bytes=len(self.received)
            )
        )

    async def UploadArtifact(
        self, request_iterator: AsyncIterator[artifact.UploadArtifactRequest], context: Context
    ) -> artifact.UploadArtifactResponse:
        async for request in request_iterator:
            match request.WhichOneof("part"):
                case "header":
                    self.announced = request.header.upload
                case "data":
                    self.received += request.data
                case "completion":
                    digest = hashlib.sha256(self.received).hexdigest()
                    if digest != request.completion.sha256:
                        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong hash")
        return artifact.UploadArtifactResponse(
            artifact=artifact.Artifact(
                artifact_id=self.announced.sha256, size_bytes=len(self.received)
            )
        )


class Models(model_grpc.ModelServiceServicer):
    """Imports what was uploaded."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def ImportModel(
        self, request: model_task.ImportModelRequest, context: Context
    ) -> AsyncIterator[model_task.ImportModelResponse]:
        log = Log("import-1")
        (file,) = request.files
        if file.artifact_id != self._artifacts.announced.sha256:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such artifact.")
        model = model_info.ModelInfo(
            model_id=request.model_id, size_bytes=len(self._artifacts.received)
        )
        for event in (
            log.entry(accepted=events.SessionAccepted(kind=session.SESSION_KIND_MODEL_IMPORT)),
            log.entry(completed=events.SessionCompleted(model=model)),
        ):
            yield model_task.ImportModelResponse(event=event)


class Inference(inference_grpc.InferenceServiceServicer):
    """Draws; loses the connection where it is to. Draws items as their overlays say."""

    def __init__(self) -> None:
        self.requests: list[inference.GenerateRequest] = []
        self.content = picture(seed=42)
        self.lose_at: int | None = None
        self.log = Log("generation-1")

    async def Generate(
        self, request: inference.GenerateRequest, context: Context
    ) -> AsyncIterator[inference.GenerateResponse]:
        self.requests.append(request)
        drawn = generation(self.log, request.settings.steps, self.content)
        for number, event in enumerate(drawn):
            if number == self.lose_at:
                # The session goes on without its reader.
                for _ in drawn:
                    continue
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection is gone")
            yield inference.GenerateResponse(event=event)

    async def GenerateBatch(
        self, request: inference.GenerateBatchRequest, context: Context
    ) -> AsyncIterator[inference.GenerateBatchResponse]:
        log = Log("batch-call-1")
        accepted = events.SessionAccepted(kind=session.SESSION_KIND_GENERATION_BATCH)
        yield inference.GenerateBatchResponse(event=log.entry(accepted=accepted))
        for index, item in enumerate(request.items):
            drawn = laid_over(request.template, item.overlay)
            image = image_of(drawn.SerializeToString(), index, item_id=item.item_id)
            done = log.entry(image_finished=events.ImageFinished(image=image))
            yield inference.GenerateBatchResponse(event=done)
        completed = events.SessionCompleted(image_count=len(request.items))
        yield inference.GenerateBatchResponse(event=log.entry(completed=completed))


def laid_over(
    template: generation_pb2.GenerationSettings, overlay: generation_pb2.GenerationOverlay
) -> generation_pb2.GenerationSettings:
    """What an item draws: the template without what is cleared, under what is set."""
    result = generation_pb2.GenerationSettings()
    result.CopyFrom(template)
    for path in overlay.cleared_fields.paths:
        result.ClearField(path)
    for field, _ in overlay.settings.ListFields():
        result.ClearField(field.name)
    result.MergeFrom(overlay.settings)
    return result


class Processing(processing_grpc.ProcessingServiceServicer):
    """Watches what Inference draws, runs batches and a fan-out."""

    def __init__(self, drawing: Inference) -> None:
        self.drawing = drawing
        self.batch = batch.CreateBatchRequest()
        self.failing = {"item-7", "item-13"}
        self.watched_from: list[int] = []

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
        self, request: batch.CreateBatchRequest, context: Context
    ) -> batch.CreateBatchResponse:
        self.batch = request
        return batch.CreateBatchResponse(
            batch=batch.Batch(batch_id="batch-1", item_count=len(request.items))
        )

    async def WatchBatch(
        self, request: batch.WatchBatchRequest, context: Context
    ) -> AsyncIterator[batch.WatchBatchResponse]:
        log = Log("batch-session-1")
        yield batch.WatchBatchResponse(
            event=log.entry(accepted=events.SessionAccepted(kind=session.SESSION_KIND_BATCH))
        )
        for number, item in enumerate(self.batch.items):
            finished = events.ItemFinished(
                item_id=item.item_id, done_count=number + 1, total_count=len(self.batch.items)
            )
            if item.item_id in self.failing:
                finished.failure.reason = errors.ERROR_REASON_NON_FINITE_OUTPUT
            else:
                finished.images.append(image_of(item.overlay.settings.prompt.encode()))
            event = log.entry(item_finished=finished)
            event.item_id = item.item_id
            yield batch.WatchBatchResponse(event=event)
        yield batch.WatchBatchResponse(event=log.entry(completed=events.SessionCompleted()))

    async def RetryBatchItems(
        self, request: batch.RetryBatchItemsRequest, context: Context
    ) -> batch.RetryBatchItemsResponse:
        again = [item for item in self.batch.items if item.item_id in self.failing]
        self.failing = set()
        del self.batch.items[:]
        self.batch.items.extend(again)
        return batch.RetryBatchItemsResponse(
            batch=batch.Batch(batch_id=request.batch_id), retried_count=len(again)
        )

    async def RunWorkflow(
        self, request: workflow.RunWorkflowRequest, context: Context
    ) -> AsyncIterator[workflow.RunWorkflowResponse]:
        draw, enlarge = request.workflow.steps
        count = draw.generate.settings.image_count
        run = Log("workflow-1")
        subject = request.arguments["subject"].text
        drawn = [image_of(f"{subject} {k}".encode(), k) for k in range(count)]
        accepted = events.SessionAccepted(kind=session.SESSION_KIND_WORKFLOW)
        yield workflow.RunWorkflowResponse(event=run.entry(accepted=accepted))
        for step, index, images in [
            (draw.step_id, 0, drawn),
            *(
                (enlarge.step_id, k, [image_of(f"{subject} {k} large".encode(), k)])
                for k in range(count)
            ),
        ]:
            ended = events.ItemFinished(item_id=step, session_id=f"{step}-{index}")
            ended.images.extend(images)
            event = run.entry(item_finished=ended)
            event.item_id, event.run_index = step, index
            yield workflow.RunWorkflowResponse(event=event)
        completed = events.SessionCompleted(image_count=count)
        yield workflow.RunWorkflowResponse(event=run.entry(completed=completed))


class Postprocessing(postprocessing_grpc.PostprocessingServiceServicer):
    """Finishes a picture and gives its verdict."""

    def __init__(self) -> None:
        self.requests: list[postprocessing.ProcessImageRequest] = []

    async def ProcessImage(
        self, request: postprocessing.ProcessImageRequest, context: Context
    ) -> AsyncIterator[postprocessing.ProcessImageResponse]:
        self.requests.append(request)
        log = Log("process-1")
        score = finishing.SafetyScore(category="nsfw", score=0.01, threshold=0.5)
        done = image_of(b"large", format=request.output.format, width=4096, height=4096)
        done.safety.CopyFrom(
            finishing.SafetyVerdict(
                scores=[score],
                action=finishing.SAFETY_ACTION_ALLOW,
                policy_id=request.steps[2].safety.policy_id,
                policy_version=1,
            )
        )
        for event in (
            log.entry(accepted=events.SessionAccepted()),
            log.entry(item_finished=events.ItemFinished(item_id="tile", total_count=1)),
            log.entry(image_finished=events.ImageFinished(image=done)),
            log.entry(completed=events.SessionCompleted(images=[done])),
        ):
            yield postprocessing.ProcessImageResponse(event=event)


class Scripted:
    """The services of one test. What no sketch calls answers UNIMPLEMENTED."""

    def __init__(self) -> None:
        self.artifacts = Artifacts()  # type: ignore[abstract]
        self.models = Models(self.artifacts)  # type: ignore[abstract]
        self.inference = Inference()  # type: ignore[abstract]
        self.processing = Processing(self.inference)  # type: ignore[abstract]
        self.postprocessing = Postprocessing()  # type: ignore[abstract]

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """Serve on a free port and connect with gRPC's default limits."""
        server = grpc.aio.server()
        artifact_grpc.add_ArtifactServiceServicer_to_server(self.artifacts, server)
        model_grpc.add_ModelServiceServicer_to_server(self.models, server)
        inference_grpc.add_InferenceServiceServicer_to_server(self.inference, server)
        processing_grpc.add_ProcessingServiceServicer_to_server(self.processing, server)
        postprocessing_grpc.add_PostprocessingServiceServicer_to_server(
            self.postprocessing, server
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield channel
        finally:
            await server.stop(grace=None)
