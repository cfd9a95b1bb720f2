"""Uploads between proto and values, for every RPC whose stream has the shape of upload.proto.

Only servicers and convert modules import this.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from deviceops.v1 import upload_pb2
from domains.conversions import timestamp
from domains.errors import FieldViolation, Reason
from domains.upload_errors import UploadInvalid
from domains.upload_parts import UploadCompletion, UploadHeader, UploadPart
from domains.uploads import Upload, check_header


async def opening(messages: AsyncIterator[Any]) -> Any:
    """The header that a stream of messages begins with, in the RPC's own type.

    Raises:
        UploadInvalid: REQUIRED_FIELD_MISSING: it begins otherwise.
    """
    async for message in messages:
        if message.WhichOneof("part") == "header":
            return message.header
        break
    raise UploadInvalid.of(
        FieldViolation("header", Reason.REQUIRED_FIELD_MISSING, "Must come first.")
    )


async def parts_from_proto(messages: AsyncIterator[Any]) -> AsyncIterator[UploadPart]:
    """What follows the header."""
    async for message in messages:
        match message.WhichOneof("part"):
            case "data":
                yield message.data
            case "completion":
                yield UploadCompletion(message.completion.sha256)
            case "header":
                yield _header(message.header.upload)
            case _:
                yield None


def header_from_proto(message: upload_pb2.UploadHeader, path: str) -> UploadHeader:
    """What an upload announces; `path` is where that stands in the first message.

    Raises:
        UploadInvalid: It breaks a rule.
    """
    header = _header(message)
    check_header(header, path)
    return header


def _header(message: upload_pb2.UploadHeader) -> UploadHeader:
    return UploadHeader(
        message.upload_id, message.offset_bytes, message.size_bytes, message.sha256
    )


def upload_to_proto(upload: Upload) -> upload_pb2.Upload:
    """An upload that is not finished."""
    return upload_pb2.Upload(
        upload_id=upload.upload_id,
        received_bytes=upload.received_bytes,
        size_bytes=upload.size_bytes,
        expire_time=timestamp(upload.expire_time),
    )
