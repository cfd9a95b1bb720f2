"""PostprocessingService through a real channel: an inventory that promises nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import pytest

from deviceops.v1 import postprocessing_pb2 as pb
from deviceops.v1 import postprocessing_pb2_grpc
from domains.postprocessing import convert
from domains.postprocessing.core import PostprocessorInventory
from domains.postprocessing.servicer import PostprocessingServicer
from domains.postprocessing.types import Postprocessor, PostprocessorKind
from tests.domains.postprocessing.safety.policies import Disk, parts_of
from tests.domains.wire import channel_to, refusal

Stub: TypeAlias = "postprocessing_pb2_grpc.PostprocessingServiceAsyncStub"


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    safety = parts_of(Disk())
    servicer = PostprocessingServicer(PostprocessorInventory(), safety)  # type: ignore[abstract]
    add = postprocessing_pb2_grpc.add_PostprocessingServiceServicer_to_server
    async with channel_to(add, servicer) as channel:
        yield postprocessing_pb2_grpc.PostprocessingServiceStub(channel)


async def test_every_kind_of_the_contract_is_listed_with_why_it_is_not_ready(
    stub: Stub,
) -> None:
    answer = await stub.ListPostprocessors(pb.ListPostprocessorsRequest())

    assert [entry.kind for entry in answer.postprocessors] == pb.PostprocessorKind.values()[1:]
    assert len({entry.postprocessor_id for entry in answer.postprocessors}) == 10
    for entry in answer.postprocessors:
        assert not entry.ready
        assert entry.explanation == "This version does not have it yet."
        assert entry.description


async def test_a_kind_can_be_asked_for(stub: Stub) -> None:
    request = pb.ListPostprocessorsRequest(kind=pb.POSTPROCESSOR_KIND_CROP)

    answer = await stub.ListPostprocessors(request)

    assert [entry.postprocessor_id for entry in answer.postprocessors] == ["crop"]


async def test_nothing_is_called_ready_that_is_not(stub: Stub) -> None:
    answer = await stub.ListPostprocessors(pb.ListPostprocessorsRequest(ready_only=True))

    assert list(answer.postprocessors) == []


async def test_an_unknown_kind_is_refused(stub: Stub) -> None:
    refused = await refusal(
        stub.ListPostprocessors(pb.ListPostprocessorsRequest(kind=77))  # type: ignore[arg-type]
    )

    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "ENUM_VALUE_UNKNOWN",
    )


async def test_the_rest_is_not_built(stub: Stub) -> None:
    statistics = stub.GetPostprocessingStatistics(pb.GetPostprocessingStatisticsRequest())
    refused = await refusal(statistics)

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_BUILT")


def test_kinds_map_completely_and_entries_arrive_whole() -> None:
    numbers = {convert.KINDS.to_proto(kind) for kind in PostprocessorKind}
    entry = Postprocessor("mine", PostprocessorKind.COLOR, "Colours.", ready=True)

    message = convert.postprocessor_to_proto(entry)

    assert numbers == set(pb.PostprocessorKind.values()) - {0}
    assert (message.postprocessor_id, message.description) == ("mine", "Colours.")
    assert message.ready
    assert message.explanation == ""
