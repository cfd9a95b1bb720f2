"""ModelService through a real channel, over real files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, cast

import grpc
import pytest

from deviceops.v1 import (
    common_pb2,
    errors_pb2,
    model_info_pb2,
    model_pb2,
    model_pb2_grpc,
)
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.core import ModelCatalogue, ModelService
from domains.model.servicer import ModelServicer
from tests.domains.model.disk import copy_demo, write_safetensors
from tests.domains.wire import channel_to, refusal
from tests.fakes.model import contents_of

Stub: TypeAlias = "model_pb2_grpc.ModelServiceAsyncStub"


@pytest.fixture(scope="module")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the demo model alone."""
    return copy_demo(tmp_path_factory.mktemp("root") / "emoji-xl").parent


@pytest.fixture
async def stub(tmp_path: Path, demo_root: Path) -> AsyncIterator[Stub]:
    write_safetensors(
        tmp_path / "ink.safetensors",
        {"lora_te2_x.lora_up.weight": (8, 8)},
        metadata={"modelspec.tags": "ink", "note": "kept"},
    )
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x04")
    (tmp_path / "away.safetensors").symlink_to("/away")
    contents = contents_of(DiskScanner([demo_root, tmp_path]), clock=lambda: datetime.now(UTC))
    catalogue = ModelCatalogue(contents, clock=lambda: datetime.now(UTC))
    # Sessions have tests over the whole server.
    elsewhere = cast("Any", None)
    others = [elsewhere] * (len(fields(ModelService)) - 2)
    core = ModelService(catalogue, contents.changes, *others)
    servicer = ModelServicer(core, elsewhere)  # type: ignore[abstract]
    add = model_pb2_grpc.add_ModelServiceServicer_to_server
    async with channel_to(add, servicer) as channel:
        yield model_pb2_grpc.ModelServiceStub(channel)


async def test_list_models_tells_the_usable_and_the_unusable(stub: Stub) -> None:
    answer = await stub.ListModels(model_pb2.ListModelsRequest())

    assert [m.model_id for m in answer.models] == ["emoji-xl", "ink", "old"]
    assert answer.total_count == 3
    assert answer.revision > 3
    assert answer.revision == (await stub.ListModels(model_pb2.ListModelsRequest())).revision
    demo, ink, old = answer.models
    assert demo.usable
    assert demo.is_default
    assert ink.usable
    assert (ink.kind, len(ink.remarks)) == ("LoRA", 0)
    assert dict(ink.header_metadata) == {}
    assert old.problem.reason == errors_pb2.ERROR_REASON_MODEL_UNSAFE_PICKLE
    (left_out,) = answer.problems
    assert "PATH_OUTSIDE_ROOT" in left_out


async def test_list_models_filters_orders_and_pages(stub: Stub) -> None:
    request = model_pb2.ListModelsRequest(order=model_pb2.MODEL_ORDER_SIZE, page_size=1)
    seen = []
    while True:
        answer = await stub.ListModels(request)
        seen += [m.model_id for m in answer.models]
        request.page_token = answer.next_page_token
        if not answer.next_page_token:
            break
    usable = await stub.ListModels(model_pb2.ListModelsRequest(usable_only=True))

    assert seen == ["emoji-xl", "ink", "old"]
    assert [m.model_id for m in usable.models] == ["emoji-xl", "ink"]


async def test_pages_of_models_end_by_bytes_too(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domains.paging.MAX_PAGE_BYTES", 1)
    listing, searching = model_pb2.ListModelsRequest(), model_pb2.SearchModelsRequest(query="i")

    listed, found = [], []
    while not listed or listing.page_token:
        page = await stub.ListModels(listing)
        listed.append([model.model_id for model in page.models])
        listing.page_token = page.next_page_token
    while not found or searching.page_token:
        matches = await stub.SearchModels(searching)
        found.append([match.model.model_id for match in matches.matches])
        searching.page_token = matches.next_page_token

    assert listed == [["emoji-xl"], ["ink"], ["old"]]
    assert len(found) > 1
    assert {len(page) for page in found} == {1}


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (model_pb2.ListModelsRequest(page_token="?"), "PAGE_TOKEN_INVALID", "page_token"),
        (model_pb2.ListModelsRequest(page_size=1001), "FIELD_OUT_OF_RANGE", "page_size"),
        (model_pb2.ListModelsRequest(type=99), "ENUM_VALUE_UNKNOWN", "type"),  # type: ignore[arg-type]
        (model_pb2.ListModelsRequest(order=99), "ENUM_VALUE_UNKNOWN", "order"),  # type: ignore[arg-type]
    ],
)
async def test_a_list_that_breaks_a_rule_is_refused(
    stub: Stub, request_: model_pb2.ListModelsRequest, reason: str, field: str
) -> None:
    refused = await refusal(stub.ListModels(request_))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.reason, refused.fields) == (reason, (field,))


async def test_get_model_tells_metadata_and_components(stub: Stub) -> None:
    ink = await stub.GetModel(model_pb2.GetModelRequest(model_id="ink"))
    default = await stub.GetModel(model_pb2.GetModelRequest())

    assert ink.model.header_metadata["note"] == "kept"
    assert ink.model.type == model_info_pb2.MODEL_TYPE_LORA
    assert default.model.model_id == "emoji-xl"
    assert {part.name for part in default.components} >= {"unet", "vae", "text_encoder_2"}


@pytest.mark.parametrize(
    ("model_id", "code", "reason"),
    [
        ("nope", grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        ("../x", grpc.StatusCode.INVALID_ARGUMENT, "NAME_INVALID"),
        ("owner/name", grpc.StatusCode.PERMISSION_DENIED, "REMOTE_SOURCE_FORBIDDEN"),
    ],
)
async def test_get_model_refuses_in_kind(
    stub: Stub, model_id: str, code: grpc.StatusCode, reason: str
) -> None:
    refused = await refusal(stub.GetModel(model_pb2.GetModelRequest(model_id=model_id)))

    assert (refused.code, refused.reason) == (code, reason)


async def test_components_come_with_what_could_replace_them(stub: Stub) -> None:
    request = model_pb2.GetModelComponentsRequest(model_id="emoji-xl")

    answer = await stub.GetModelComponents(request)

    unet = next(part for part in answer.components if part.name == "unet")
    assert unet.data_type == common_pb2.TENSOR_DATA_TYPE_FLOAT16
    assert unet.parameter_count > 1_000_000
    assert list(answer.compatible_lora_model_ids) == ["ink"]


async def test_search_finds_by_tag(stub: Stub) -> None:
    answer = await stub.SearchModels(model_pb2.SearchModelsRequest(query="ink"))
    refused = await refusal(stub.SearchModels(model_pb2.SearchModelsRequest()))

    assert [match.model.model_id for match in answer.matches] == ["ink"]
    assert answer.matches[0].score == 1
    assert (refused.reason, refused.fields) == ("REQUIRED_FIELD_MISSING", ("query",))
