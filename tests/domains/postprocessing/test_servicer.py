"""PostprocessingService through a real channel: an inventory that promises what there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest

from deviceops.v1 import postprocessing_pb2 as pb
from deviceops.v1 import postprocessing_pb2_grpc
from domains.chain.core import preparing
from domains.chain.core.preparing import best_restorer, best_upscaler
from domains.chain.core.statistics import StepStatistics
from domains.chain.errors import PostprocessorMissing
from domains.chain.types import AskedChain, DenoiseMethod, DenoiseStep
from domains.clock import Clock
from domains.device.core.facts import TransientFacts
from domains.model.types import Enlargement, Model, ModelFormat, ModelType
from domains.postprocessing import convert
from domains.postprocessing.core import inventory
from domains.postprocessing.core.inventory import PostprocessorInventory
from domains.postprocessing.servicer import PostprocessingServicer
from domains.postprocessing.types import Postprocessor, PostprocessorKind
from domains.values import ModelPlace
from tests.domains.postprocessing.safety.policies import Disk, parts_of
from tests.domains.wire import channel_to, refusal

Stub: TypeAlias = "postprocessing_pb2_grpc.PostprocessingServiceAsyncStub"


@dataclass
class Models:
    """A catalogue of upscalers and face restorers."""

    upscalers: tuple[Model, ...] = ()
    restorers: tuple[Model, ...] = ()

    async def resolve(self, model_id: str, **_: object) -> Model:
        raise NotImplementedError

    async def of_type(self, type: ModelType) -> tuple[Model, ...]:
        found = {ModelType.UPSCALER: self.upscalers, ModelType.FACE_RESTORER: self.restorers}
        return found[type]


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
async def stub(models: Models) -> AsyncIterator[Stub]:
    servicer = PostprocessingServicer(  # type: ignore[abstract]
        PostprocessorInventory(models, lambda _id: ()),
        *[None] * 2,  # type: ignore[arg-type]
        StepStatistics(TransientFacts(), Clock()),
        None,  # type: ignore[arg-type]
        parts_of(Disk()),
    )
    add = postprocessing_pb2_grpc.add_PostprocessingServiceServicer_to_server
    async with channel_to(add, servicer) as channel:
        yield postprocessing_pb2_grpc.PostprocessingServiceStub(channel)


def upscaler(model_id: str, factor: int, size_bytes: int = 1) -> Model:
    """A usable one."""
    return Model(
        model_id=model_id,
        name=model_id,
        type=ModelType.UPSCALER,
        architecture=None,
        format=ModelFormat.SAFETENSORS,
        place=ModelPlace.of(Path("/models") / model_id),
        size_bytes=size_bytes,
        modified_at=datetime.now(UTC),
        kind="RRDB",
        enlargement=Enlargement(factor, 9) if factor else None,
    )


async def test_every_kind_of_the_contract_is_listed_with_why_it_is_not_ready(
    stub: Stub,
) -> None:
    answer = await stub.ListPostprocessors(pb.ListPostprocessorsRequest())

    kinds = dict.fromkeys(entry.kind for entry in answer.postprocessors)
    assert list(kinds) == pb.PostprocessorKind.values()[1:]
    ids = [entry.postprocessor_id for entry in answer.postprocessors]
    assert len(set(ids)) == len(ids)
    for entry in answer.postprocessors:
        assert entry.description
        assert entry.ready is not bool(entry.explanation)
    missing = {e.postprocessor_id for e in answer.postprocessors if not e.ready}
    assert missing == {"upscale", "face-restore", "safety", "control"}
    [sharpen] = [e for e in answer.postprocessors if e.postprocessor_id == "sharpen"]
    assert {limit.field for limit in sharpen.limits} == {
        "SharpenStep.amount",
        "SharpenStep.radius_pixels",
        "SharpenStep.threshold",
    }


async def test_a_method_of_a_kind_says_what_it_lacks(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = pb.ListPostprocessorsRequest(kind=pb.POSTPROCESSOR_KIND_DENOISE)

    found = (await stub.ListPostprocessors(request)).postprocessors
    monkeypatch.setattr(preparing, "find_spec", lambda _name: None)
    lacking = (await stub.ListPostprocessors(request)).postprocessors

    ids = ["denoise", "denoise-non-local-means"]
    assert [(each.postprocessor_id, each.ready) for each in found] == [(i, True) for i in ids]
    assert [each.ready for each in lacking] == [True, False]
    assert "device-operations[opencv]" in lacking[1].explanation
    chain = AskedChain((DenoiseStep(method=DenoiseMethod.NON_LOCAL_MEANS),))
    with pytest.raises(PostprocessorMissing, match=r"steps\[0\].denoise.method: .*\[opencv\]"):
        await preparing.ChainPreparer(Models(), None, None, None).prepare(chain, "steps")


async def test_a_kind_can_be_asked_for(stub: Stub) -> None:
    request = pb.ListPostprocessorsRequest(kind=pb.POSTPROCESSOR_KIND_CROP)

    answer = await stub.ListPostprocessors(request)

    assert [entry.postprocessor_id for entry in answer.postprocessors] == ["crop"]


async def test_nothing_is_called_ready_that_is_not(
    stub: Stub, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = pb.ListPostprocessorsRequest(ready_only=True, kind=pb.POSTPROCESSOR_KIND_UPSCALE)

    assert not (await stub.ListPostprocessors(request)).postprocessors

    models.upscalers = (upscaler("b", 4), upscaler("a", 0))
    monkeypatch.setattr(inventory, "find_spec", lambda _name: None)
    found = (await stub.ListPostprocessors(request)).postprocessors

    assert [each.postprocessor_id for each in found] == ["b"]
    request.ready_only = False
    found = (await stub.ListPostprocessors(request)).postprocessors
    assert [(e.ready, "[upscale]" in e.explanation) for e in found] == [
        (False, True),
        (True, False),
    ]

    monkeypatch.setattr(inventory, "find_spec", lambda _name: object())
    request.ready_only = True
    found = (await stub.ListPostprocessors(request)).postprocessors

    assert [(e.postprocessor_id, e.model_id, list(e.factors)) for e in found] == [
        ("a", "a", []),
        ("b", "b", [4]),
    ]
    assert found[0].architecture == "RRDB"


def restorer(model_id: str, parameter_count: int, size_bytes: int = 1) -> Model:
    """A usable one; without parameters one of a kind that is not built in."""
    return replace(
        upscaler(model_id, 0, size_bytes),
        type=ModelType.FACE_RESTORER,
        kind="GFPGAN" if parameter_count else "CodeFormer",
        parameter_count=parameter_count,
    )


async def test_face_restorers_are_ready_when_their_weights_are_there(
    stub: Stub, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = pb.ListPostprocessorsRequest(kind=pb.POSTPROCESSOR_KIND_FACE_RESTORE)

    [missing] = (await stub.ListPostprocessors(request)).postprocessors

    assert not missing.ready
    assert "GFPGAN" in missing.explanation
    assert {limit.field for limit in missing.limits} == {
        "FaceRestoreStep.strength",
        "FaceRestoreStep.least_confidence",
    }
    models.restorers = (restorer("ours", 9), restorer("other", 0))
    monkeypatch.setattr(inventory, "find_spec", lambda _name: None)
    other, ours = (await stub.ListPostprocessors(request)).postprocessors
    assert (ours.ready, ours.model_id, ours.architecture) == (True, "ours", "GFPGAN")
    assert not other.ready
    assert "[upscale]" in other.explanation


def test_the_best_restorer_needs_nothing_else_and_is_the_largest() -> None:
    known = (restorer("foreign", 0, 99), restorer("small", 9, 1), restorer("large", 9, 5))

    assert best_restorer(()) is None
    assert best_restorer(known[:1]) is known[0]
    best = best_restorer(known)
    assert best is not None
    assert best.model_id == "large"


@pytest.mark.parametrize(
    ("factor", "best"),
    [(1.0, "two"), (2.0, "two"), (2.5, "large-four"), (4.0, "large-four"), (8.0, "large-four")],
)
def test_the_best_upscaler_reaches_the_factor_and_goes_the_least_beyond(
    factor: float, best: str
) -> None:
    known = (
        upscaler("two", 2),
        upscaler("four", 4),
        upscaler("large-four", 4, 9),
        upscaler("unknown", 0),
    )

    found = best_upscaler(known, factor)

    assert found is not None
    assert found.model_id == best
    assert best_upscaler((), factor) is None


async def test_an_unknown_kind_is_refused(stub: Stub) -> None:
    refused = await refusal(
        stub.ListPostprocessors(pb.ListPostprocessorsRequest(kind=77))  # type: ignore[arg-type]
    )

    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "ENUM_VALUE_UNKNOWN",
    )


def test_kinds_map_completely_and_entries_arrive_whole() -> None:
    numbers = {convert.KINDS.to_proto(kind) for kind in PostprocessorKind}
    entry = Postprocessor("mine", PostprocessorKind.COLOR, "Colours.", ready=True)

    message = convert.postprocessor_to_proto(entry)

    assert numbers == set(pb.PostprocessorKind.values()) - {0}
    assert (message.postprocessor_id, message.description) == ("mine", "Colours.")
    assert message.ready
    assert message.explanation == ""
