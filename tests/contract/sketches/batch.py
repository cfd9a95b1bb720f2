"""Five hundred pictures in a batch that survives restarts."""

from __future__ import annotations

import grpc.aio

from deviceops.v1.batch_pb2 import (
    BatchItem,
    CreateBatchRequest,
    RetryBatchItemsRequest,
    WatchBatchRequest,
)
from deviceops.v1.generation_pb2 import GenerationOverlay, GenerationSettings
from deviceops.v1.processing_pb2_grpc import ProcessingServiceStub
from deviceops.v1.session_pb2 import RetrySettings


async def draw_all(
    channel: grpc.aio.Channel, template: GenerationSettings, prompts: dict[str, str]
) -> dict[str, str]:
    """Draw every prompt; return the artifact of each by the prompt's key. An item that fails
    for good gets a second chance."""
    processing = ProcessingServiceStub(channel)
    items = [
        BatchItem(
            item_id=key,
            overlay=GenerationOverlay(settings=GenerationSettings(prompt=prompt)),
        )
        for key, prompt in prompts.items()
    ]
    created = await processing.CreateBatch(
        CreateBatchRequest(template=template, items=items, retry=RetrySettings(max_attempts=3))
    )
    artifacts: dict[str, str] = {}
    watch = WatchBatchRequest(batch_id=created.batch.batch_id)
    while True:
        async for response in processing.WatchBatch(watch):
            finished = response.event.item_finished
            if response.event.WhichOneof("event") == "item_finished" and finished.images:
                artifacts[finished.item_id] = finished.images[0].artifact_id
        if len(artifacts) == len(prompts):
            return artifacts
        await processing.RetryBatchItems(
            RetryBatchItemsRequest(batch_id=created.batch.batch_id)
        )
