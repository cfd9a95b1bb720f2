"""Models that wait for a part of generation: listed, loaded and checked, and not drawn with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from deviceops.v1 import model_info_pb2, model_pb2
from domains.model.backends.inspector.conversion import convert
from domains.model.jobs import ConvertJob
from domains.values import ModelPlace
from tests.domains.model.backends.inspector.context import Told
from tests.domains.model.disk import copy_demo, edit
from tests.domains.model.originals import refiner_file
from tests.domains.picture.drawn import painting, saved
from tests.e2e.errors import refusal_of
from tests.e2e.test_load_model import load, loaded
from tests.e2e.test_model_tasks import check, converting, refused
from tests.running import Client, small_request

ALL = ("refiner-folder", "masked", "masked-file")


def rearranged(source: Path, folder: Path, name: str) -> None:
    job = ConvertJob("x", ModelPlace.of(source), folder, name, rearrange=True)
    convert(job, Told())


@pytest.fixture(scope="module")
def root(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = models
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    refiner_file(elsewhere)
    rearranged(elsewhere / "refiner.safetensors", folder / "refiner-folder", "refiner-folder")
    masked = copy_demo(folder / "masked")
    edit(masked / "unet" / "config.json", in_channels=9)
    edit(masked / "model_index.json", _class_name="StableDiffusionXLInpaintPipeline")
    (unet,) = (masked / "unet").glob("*.safetensors")
    tensors = load_file(unet)
    first = tensors["conv_in.weight"]
    beside = torch.zeros(first.shape[0], 5, 3, 3, dtype=first.dtype)
    save_file({**tensors, "conv_in.weight": torch.cat([first, beside], dim=1)}, unet)
    rearranged(masked, folder, "masked-file.safetensors")
    return folder


async def model_of(client: Client, model_id: str) -> model_info_pb2.Model:
    request = model_pb2.GetModelRequest(model_id=model_id)
    return (await client.model.GetModel(request, metadata=client.metadata)).model


@pytest.mark.parametrize("model_id", [*ALL, "emoji-refiner"])
async def test_each_says_what_it_waits_for(client: Client, model_id: str) -> None:
    model = await model_of(client, model_id)

    assert model.usable, model.problem
    said = [remark for remark in model.remarks if "with inpainting" in remark]
    assert bool(said) is model_id.startswith("masked")
    assert not any("later" in remark for remark in model.remarks)
    assert model.inpainting is model_id.startswith("masked")
    assert not model.is_default


@pytest.mark.parametrize("model_id", ALL)
async def test_each_is_loaded_and_run_once(client: Client, model_id: str) -> None:
    _, model = await loaded(load(client, model_id=model_id, warm_up=True))
    report = await check(client, model_id, "DEEP", device_id="cpu")

    assert model.size.value_bytes > 0
    assert report.valid, report.findings


@pytest.mark.parametrize("model_id", ["masked", "masked-file"])
async def test_what_takes_a_mask_draws_with_one_alone(client: Client, model_id: str) -> None:
    request = small_request(model_id=model_id, steps=1)
    refusal = await refusal_of(client.draw(request))
    request.settings.inpainting.image.inline = saved(painting(64, 64))
    request.settings.inpainting.mask.inline = saved(Image.new("L", (64, 64), 255))
    request.settings.inpainting.strength = 1
    events, _ = await client.draw(request)

    assert (refusal.reason, refusal.fields) == ("FIELDS_CONFLICT", ["settings.model_id"])
    assert events[-1].WhichOneof("event") == "completed"


async def test_a_refiner_that_borrows_is_checked_and_not_loaded_alone(client: Client) -> None:
    failed = await refused(load(client, model_id="emoji-refiner"))
    report = await check(client, "emoji-refiner", "DEEP")
    file = await refused(converting(client, "emoji-refiner", "one-file"))

    assert failed.reason == "MODEL_INCOMPATIBLE"
    assert "checkpoint whose pictures it refines" in failed.message
    assert report.valid, report.findings
    assert file.reason == "MODEL_INCOMPATIBLE"
