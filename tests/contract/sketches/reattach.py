"""Go on where the connection was lost."""

from __future__ import annotations

import grpc
import grpc.aio

from deviceops.v1.event_pb2 import SessionCompleted
from deviceops.v1.inference_pb2 import GenerateRequest
from deviceops.v1.inference_pb2_grpc import InferenceServiceStub
from deviceops.v1.processing_pb2 import WatchSessionRequest
from deviceops.v1.processing_pb2_grpc import ProcessingServiceStub
from deviceops.v1.session_pb2 import ON_DISCONNECT_DETACH
from tests.contract.sketches.pictures import Pictures


async def generate_through_losses(
    channel: grpc.aio.Channel, request: GenerateRequest
) -> tuple[Pictures, SessionCompleted]:
    """Draw in a session that outlives its stream, and watch the rest after a loss."""
    request.options.on_disconnect = ON_DISCONNECT_DETACH
    pictures = Pictures()
    session_id, last_seen = "", 0
    try:
        async for response in InferenceServiceStub(channel).Generate(request):
            session_id, last_seen = response.event.session_id, response.event.sequence
            pictures.add(response.event)
            if response.event.WhichOneof("event") == "completed":
                return pictures, response.event.completed
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE or not session_id:
            raise
    rest = WatchSessionRequest(session_id=session_id, from_sequence=last_seen + 1)
    async for watched in ProcessingServiceStub(channel).WatchSession(rest):
        pictures.add(watched.event)
        if watched.event.WhichOneof("event") == "completed":
            return pictures, watched.event.completed
    raise RuntimeError("the session ended without a result")
