"""VAEs, ControlNets, text encoders and refiners on a device, over a real channel."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import pytest
import torch
from safetensors.torch import load_file, save_file

from deviceops.v1 import (
    common_pb2,
    memory_info_pb2,
    memory_pb2,
    model_cache_pb2,
    model_info_pb2,
)
from tests.domains.model.disk import DEMO
from tests.domains.model.originals import original_control, parts_of, refiner_file
from tests.e2e.test_load_model import CPU, in_type, load, loaded, refused, status, unload
from tests.e2e.test_load_model import unloaded as unload_report
from tests.e2e.test_model_tasks import check, reason
from tests.running import Client

MODELS = DEMO.parent
CANNY = MODELS / "emoji-canny"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """Models of every kind that is loaded, beside the demo's."""
    folder = models
    shutil.copytree(CANNY, folder / "canny")
    shutil.copytree(DEMO / "vae", folder / "vae-folder")
    shutil.copytree(DEMO / "text_encoder", folder / "encoder")
    save_file(parts_of(DEMO)["text_encoder"], folder / "clip.safetensors")
    tensors = load_file(CANNY / WEIGHTS)
    (folder / "original").mkdir()
    named = {f"control_model.{original_control(name)}": one for name, one in tensors.items()}
    save_file(named, folder / "original" / "canny-original.safetensors")
    shutil.copy(CANNY / "config.json", folder / "original")
    refiner_file(folder)
    # Its numbers are numbers, and what it makes of them is none.
    loud = {name: tensor.float() for name, tensor in tensors.items()}
    for name in ("conv_in.weight", "controlnet_cond_embedding.conv_in.weight"):
        loud[name] = torch.full_like(loud[name], 3e38)
    save_file(loud, Path(shutil.copytree(CANNY, folder / "loud")) / WEIGHTS)
    short = Path(shutil.copytree(CANNY, folder / "short")) / WEIGHTS
    save_file({n: t for n, t in tensors.items() if n != "conv_in.bias"}, short)
    return folder


ALL = ("emoji-vae", "vae-folder", "canny", "canny-original", "clip", "encoder", "refiner")


@pytest.mark.parametrize("model_id", ALL)
async def test_every_kind_is_loaded_told_of_and_unloaded(client: Client, model_id: str) -> None:
    before = await status(client, model_id)
    _, model = await loaded(load(client, model_id=model_id, warm_up=True))
    _, again = await loaded(load(client, model_id=model_id))
    after = await status(client, model_id)
    held = await in_memory(client)
    report = await unload_report(unload(client, model_id=model_id))

    assert not before.loaded
    assert before.estimates[0].weights.quality == common_pb2.FIGURE_QUALITY_ESTIMATED
    assert before.estimates[0].fits
    assert (model.model_id, model.device_id) == (model_id, CPU)
    assert model.origin == model_info_pb2.MODEL_ORIGIN_DISK
    assert again.origin == model_info_pb2.MODEL_ORIGIN_LOADED
    assert {part.data_type for part in model.data_types} == {
        common_pb2.TENSOR_DATA_TYPE_FLOAT32
    }
    (there,) = after.loaded
    assert there.size == model.size
    assert after.estimates[0].weights == model.size
    assert held[model_id] == model.size.value_bytes
    assert report.freed.value_bytes == model.size.value_bytes
    assert not (await status(client, model_id)).loaded
    assert model_id not in await in_memory(client)


async def in_memory(client: Client) -> dict[str, int]:
    """Bytes of each model on devices, as memory counts them."""
    request = memory_pb2.GetModelMemoryRequest()
    answer = await client.memory.GetModelMemory(request, metadata=client.metadata)
    sizes: dict[str, int] = {}
    for one in answer.components:
        if one.place.device_id:
            sizes[one.model_id] = sizes.get(one.model_id, 0) + one.size.value_bytes
    return sizes


@pytest.mark.parametrize("model_id", ALL)
async def test_every_kind_is_run_when_it_is_checked_deeply(
    client: Client, model_id: str
) -> None:
    found = await check(client, model_id, "DEEP", device_id="cpu")
    assert found.valid, found.findings
    assert found.estimate.fits
    assert (await status(client, model_id)).loaded


async def test_what_a_run_makes_of_numbers_is_found(client: Client) -> None:
    full = await check(client, "loud", "FULL")
    deep = await check(client, "loud", "DEEP")
    assert full.valid
    assert [(reason(one.reason), one.component) for one in deep.findings] == [
        ("NON_FINITE_OUTPUT", "controlnet")
    ]


async def test_a_control_net_computes_in_the_type_that_was_chosen(client: Client) -> None:
    wanted = [in_type("DENOISER", "BFLOAT16")]
    _, model = await loaded(load(client, model_id="canny", data_types=wanted))
    assert [(one.part, one.data_type) for one in model.data_types] == [
        (common_pb2.MODEL_PART_DENOISER, common_pb2.TENSOR_DATA_TYPE_BFLOAT16)
    ]
    other = await refused(client, model_id="canny", data_types=[in_type("VAE", "FLOAT32")])
    assert other.reason == "FIELDS_CONFLICT"


async def test_a_dry_run_says_what_a_network_would_need(client: Client) -> None:
    events, model = await loaded(load(client, model_id="encoder", dry_run=True))
    assert model.estimate.fits
    assert model.estimate.weights.value_bytes == model.estimate.peak.value_bytes > 0
    assert not any(event.HasField("transfer_progress") for event in events)


@pytest.mark.parametrize(
    ("model_id", "said"),
    [
        ("line-art", "the generation that names it"),
        ("emoji-embedding", "the generation that names it"),
        ("compact-2x", "nothing that would run it"),
    ],
)
async def test_what_is_not_loaded_by_itself_says_what_to_do(
    client: Client, model_id: str, said: str
) -> None:
    refusal = await refused(client, model_id=model_id)
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.reason == "MODEL_INCOMPATIBLE"
    assert said in refusal.message
    # It is checked like any other, without a device.
    assert (await check(client, model_id, "DEEP")).valid


async def test_a_network_with_a_tensor_too_few_is_refused_by_its_name(client: Client) -> None:
    refusal = await refused(client, model_id="short")
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "MODEL_INCOMPLETE",
    )
    assert "conv_in.bias" in refusal.message


async def test_a_cancelled_load_leaves_the_others(client: Client) -> None:
    await loaded(load(client, model_id="emoji-xl"))
    if (await status(client, "canny")).loaded:
        await unload_report(unload(client, model_id="canny"))
    call = load(client, model_id="canny")
    async for answer in call:
        if answer.event.HasField("phase_started"):
            break
    call.cancel()
    # The device does one thing after another: whatever follows finds how that one ended.
    _, kept = await loaded(load(client, model_id="emoji-xl"))
    assert kept.origin == model_info_pb2.MODEL_ORIGIN_LOADED
    _, fresh = await loaded(load(client, model_id="canny"))
    assert fresh.HasField("load_time") or fresh.origin == model_info_pb2.MODEL_ORIGIN_LOADED


async def test_main_memory_keeps_a_network_and_a_load_takes_it_from_there(
    client: Client,
) -> None:
    for model_id in ("canny", "emoji-vae"):
        if (await status(client, model_id)).loaded:
            await unload_report(unload(client, model_id=model_id))
        request = model_cache_pb2.CacheModelRequest(model_id=model_id)
        call = client.model.CacheModel(request, metadata=client.metadata)
        async for _ in call:
            pass
        _, model = await loaded(load(client, model_id=model_id))
        assert model.origin == model_info_pb2.MODEL_ORIGIN_CACHED
        assert (await status(client, model_id)).cached.model_id == model_id


async def test_networks_give_way_when_memory_is_asked_for(client: Client) -> None:
    await loaded(load(client, model_id="canny"))
    request = memory_pb2.EvictModelsRequest(
        place=memory_info_pb2.MemoryPlace(device_id="cpu"), target_free_bytes=1 << 40
    )
    call = client.memory.EvictModels(request, metadata=client.metadata)
    events = [answer.event async for answer in call]
    assert events[-1].HasField("completed")
    assert not (await status(client, "canny")).loaded
