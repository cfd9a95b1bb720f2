"""Reading a failed call: its code, its reason, its broken fields."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]


@dataclass
class Refusal:
    """What a client is told."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    retry_seconds: float | None = None


def read(error: grpc.aio.AioRpcError) -> Refusal:
    """Everything in the error's trailers."""
    refusal = Refusal(error.code(), error.details() or "")
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.ErrorInfo()
            broken = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                assert info.domain == "deviceops"
                refusal.reason, refusal.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(broken):
                refusal.fields = [violation.field for violation in broken.field_violations]
            elif detail.Unpack(retry):
                refusal.retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()
    return refusal


async def refusal_of(call: Awaitable[object]) -> Refusal:
    """What a call that must fail was told."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return read(failure.value)
