"""What a failed call says to a program."""

from __future__ import annotations

import grpc.aio
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]


def error_info(error: grpc.aio.AioRpcError) -> ErrorInfo:
    """The ErrorInfo detail; an empty one when the server sent none."""
    info = ErrorInfo()
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
    return info
