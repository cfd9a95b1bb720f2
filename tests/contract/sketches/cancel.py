"""Stop a picture that nobody wants any more."""

from __future__ import annotations

import grpc
import grpc.aio

from deviceops.v1.event_pb2 import SessionCancelled
from deviceops.v1.inference_pb2 import GenerateRequest
from deviceops.v1.inference_pb2_grpc import InferenceServiceStub
from deviceops.v1.processing_pb2 import CancelSessionRequest
from deviceops.v1.processing_pb2_grpc import ProcessingServiceStub


async def draw_and_cancel(
    channel: grpc.aio.Channel, request: GenerateRequest
) -> SessionCancelled:
    """Cancel at the first finished step; return what the session says in the end."""
    last = SessionCancelled()
    try:
        async for response in InferenceServiceStub(channel).Generate(request):
            match response.event.WhichOneof("event"):
                case "step_finished" if response.event.step_finished.step == 1:
                    await ProcessingServiceStub(channel).CancelSession(
                        CancelSessionRequest(
                            session_id=response.event.session_id, reason_text="not wanted"
                        )
                    )
                case "cancelled":
                    last = response.event.cancelled
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.CANCELLED:
            raise
    return last
