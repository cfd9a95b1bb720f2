"""Items of durable batches that finish a picture: what forbids it is told where it was set."""

from __future__ import annotations

from typing import Any

import pytest

from deviceops.v1 import common_pb2, postprocessing_pb2
from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.inference.convert.batch_pictures import check_given
from domains.processing.batches.types import ItemWork
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.types import WorkOptions

PICTURE = common_pb2.InputImage(inline=b"a picture").SerializeToString()


async def told(*fields: str) -> SessionPlan | None:
    """What comes of one picture that is refused for these fields of its request."""

    async def prepare() -> SessionPlan:
        broken = (
            FieldViolation(each, Reason.FIELD_OUT_OF_RANGE, "Too much.") for each in fields
        )
        raise InvalidArgument.of(*broken)

    def start(asked: Any) -> SessionRequest:
        return SessionRequest(WorkOptions(), b"", prepare)

    def finishing(image: bytes) -> postprocessing_pb2.ProcessImageRequest:
        return postprocessing_pb2.ProcessImageRequest()

    return await check_given([ItemWork("one", b"", image=PICTURE)], finishing, start)


async def test_what_is_done_with_a_picture_is_refused_where_the_batch_says_it() -> None:
    with pytest.raises(InvalidArgument) as refused:
        await told("steps[0].upscale.factor", "output.quality", "placement.any", "image.inline")

    assert [each.field for each in refused.value.violations] == [
        "postprocessing[0].upscale.factor",
        "template.output.quality",
        "devices",
    ]


async def test_a_picture_that_cannot_be_used_fails_when_its_turn_comes() -> None:
    assert await told("image.inline") is None
