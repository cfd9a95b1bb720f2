"""Files and folders with real names and shapes become each other, by their headers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.inspector import rearranged
from domains.model.backends.inspector.rearranged import Rearranged, as_file, as_folder
from domains.model.backends.model_plan import ModelPlan
from domains.model.backends.networks import build_empty
from domains.model.backends.plans import plan_model
from domains.model.types import ModelType
from tests.domains.model.corpus.kinds import kinds, write
from tests.domains.model.corpus.parts import Shapes, part
from tests.domains.model.disk import DEMO, copy_demo, edit, files_at, write_safetensors

# What a file may hold beside its networks, and what compares texts with pictures.
EXTRAS = re.compile(
    r".*position_ids|.*\.logit_scale|model_ema\..*|.*alphas_cumprod.*|betas|posterior_.*"
)
# The encoder of SD 2.x projects nothing where it is used.
SD2_EXTRAS = re.compile(r"cond_stage_model\.model\.text_projection")
UNETS = {
    "sdxl": "unet-sdxl",
    "sdxl-v": "unet-sdxl",
    "sdxl-unet-ssd-1b": "unet-ssd-1b",
    "sdxl-unet-vega": "unet-vega",
    "sdxl-unet-koala-700m": "unet-koala-700m",
    "sdxl-unet-koala-1b": "unet-koala-1b",
    "sd1": "unet-sd1",
    "sd1-ema": "unet-sd1",
    "sd2": "unet-sd2",
    "sdxl-refiner": "unet-refiner",
}
MASKED = ("sdxl-inpainting", "sd1-inpainting", "sd2-inpainting")
ENCODERS = {
    "sd1": {"text_encoder": "clip-l"},
    "sd2": {"text_encoder": "openclip-h"},
    "sdxl": {"text_encoder": "clip-l", "text_encoder_2": "openclip-g"},
    "sdxl-refiner": {"text_encoder_2": "openclip-g"},
}


def shapes(result: Rearranged) -> dict[str, Shapes]:
    return {
        name: {tensor.name: tensor.shape for tensor in tensors}
        for name, tensors in result.weights.items()
    }


def folder_of(plan: ModelPlan, folder: Path) -> Path:
    """The folder that a file becomes, all holes."""
    result = as_folder(plan, None)
    for name, tensors in shapes(result).items():
        write_safetensors(folder / name, tensors, metadata=result.metadata)
    for name, text in result.texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", UNETS)
def test_real_names_there_and_back(tmp_path: Path, name: str) -> None:
    plan = plan_model(files_at(write(tmp_path, name)))
    folder = folder_of(plan, tmp_path / "folder")

    found = shapes(as_folder(plan, None))
    assert found["unet/diffusion_pytorch_model.safetensors"] == part(UNETS[name])
    assert found["vae/diffusion_pytorch_model.safetensors"] == part("vae")
    encoders = ENCODERS.get(name) or ENCODERS[name.split("-")[0]]
    for place, encoder in encoders.items():
        wanted = part(encoder)
        if encoder == "openclip-h":
            last = "text_model.encoder.layers.23."
            wanted = {
                key: shape
                for key, shape in wanted.items()
                if not key.startswith((last, "text_projection"))
            }
        assert found[f"{place}/model.safetensors"] == wanted

    read = plan_model(files_at(folder))
    for found_network, network in zip(read.networks, plan.networks, strict=True):
        # A folder's says besides what class it is of.
        assert found_network.config == {**found_network.config, **network.config}
    assert read.tokenizers == plan.tokenizers
    assert read.scheduler_config == plan.scheduler_config
    (back,) = shapes(as_file(read, "back.safetensors", None)).values()
    assert back == real(name)


@pytest.mark.parametrize("name", MASKED)
def test_models_that_take_a_mask_go_both_ways(tmp_path: Path, name: str) -> None:
    plan = plan_model(files_at(write(tmp_path, name)))
    folder = folder_of(plan, tmp_path / "folder")

    index = json.loads((folder / "model_index.json").read_bytes())
    assert index["_class_name"].endswith("InpaintPipeline")
    (back,) = shapes(as_file(plan_model(files_at(folder)), "back", None)).values()
    assert back == real(name)
    model = next(m for m in DiskScanner([tmp_path]).scan().models if m.model_id == "folder")
    assert model.usable, model.problem
    assert model.inpainting
    assert any("masked part" in remark for remark in model.remarks)


def test_a_refiners_folder_is_planned_as_the_hub_has_it(tmp_path: Path) -> None:
    """As stabilityai/stable-diffusion-xl-refiner-1.0: no first encoder, and a class for
    pictures that are begun."""
    plan = plan_model(files_at(write(tmp_path, "sdxl-refiner")))
    folder = folder_of(plan, tmp_path / "folder")

    index = json.loads((folder / "model_index.json").read_bytes())
    assert index["_class_name"] == "StableDiffusionXLImg2ImgPipeline"
    assert (index["text_encoder"], index["tokenizer"]) == ([None, None], [None, None])
    assert index["text_encoder_2"] == ["transformers", "CLIPTextModelWithProjection"]
    read = plan_model(files_at(folder))
    assert (read.type, read.borrowed) == (ModelType.REFINER, ())
    assert list(read.tokenizers) == ["tokenizer_2"]
    for network in read.networks:
        build_empty(network)
    model = next(m for m in DiskScanner([tmp_path]).scan().models if m.model_id == "folder")
    assert model.usable, model.problem
    assert (model.type, model.native_width) == (ModelType.REFINER, 1024)
    assert all("of its own" not in remark for remark in model.remarks)


def test_a_refiner_with_a_checkpoints_networks_is_no_whole_model() -> None:
    with pytest.raises(FailedPrecondition) as refused:
        plan_model(files_at(DEMO.parent / "emoji-refiner"))

    assert refused.value.reason is Reason.MODEL_INCOMPATIBLE
    assert "no text_encoder_2 and no vae of its own" in refused.value.message


@pytest.mark.parametrize("predicted", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["sdxl", "sd1", "sd2"])
def test_what_is_predicted_goes_both_ways(tmp_path: Path, name: str, predicted: str) -> None:
    """Whatever the family usually predicts, and where nothing but the folder says it."""
    folder = folder_of(plan_model(files_at(write(tmp_path, name))), tmp_path / "folder")
    edit(folder / "scheduler" / "scheduler_config.json", prediction_type=predicted)

    result = as_file(plan_model(files_at(folder)), "one.safetensors", None)
    (tensors,) = shapes(result).values()
    for metadata in (result.metadata, {"format": "pt"}):
        path = write_safetensors(tmp_path / "one.safetensors", tensors, metadata=metadata)
        if "deviceops.files" not in metadata and name == "sd2":
            continue  # its tensors do not tell, and other programs measure it
        assert plan_model(files_at(path)).scheduler_config["prediction_type"] == predicted


def test_a_scan_tells_of_schedules_and_text_encoders(tmp_path: Path) -> None:
    """Of a folder, of the file it becomes with its configurations, and of one without any."""
    folder = copy_demo(tmp_path / "folder")
    told = {"timestep_spacing": "trailing", "original_inference_steps": 40}
    edit(folder / "scheduler" / "scheduler_config.json", trained_betas=None, **told)
    result = as_file(plan_model(files_at(folder)), "file.safetensors", None)
    (tensors,) = shapes(result).values()
    write_safetensors(tmp_path / "file.safetensors", tensors, metadata=result.metadata)
    write(tmp_path, "sdxl")

    models = {model.model_id: model for model in DiskScanner([tmp_path]).scan().models}

    for name, layers in (("folder", (4, 5)), ("file", (4, 5)), ("sdxl", (12, 32))):
        parts = {part.name: part.layers for part in models[name].components}
        assert (parts.pop("text_encoder"), parts.pop("text_encoder_2")) == layers
        assert not any(parts.values())
    for name in ("folder", "file"):
        assert told.items() <= models[name].scheduler_config.items()
    assert models["file"].scheduler_config == models["folder"].scheduler_config
    assert models["sdxl"].scheduler_config["timestep_spacing"] == "leading"


def test_a_header_holds_no_more_than_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_model(files_at(DEMO))
    held = as_file(plan, "one.safetensors", None).metadata["deviceops.files"]
    monkeypatch.setattr(rearranged, "MAX_CHARACTERS", len(held) - 1)

    with pytest.raises(FailedPrecondition) as refused:
        as_file(plan, "one.safetensors", None)

    assert refused.value.reason is Reason.MODEL_HEADER_TOO_LARGE


def real(name: str) -> Shapes:
    """The tensors of a real file that its networks are made from."""
    return {
        key: shape
        for key, shape in kinds()[name].shapes.items()
        if not EXTRAS.fullmatch(key) and not SD2_EXTRAS.fullmatch(key)
    }


def test_what_came_with_the_program_is_not_held(tmp_path: Path) -> None:
    """A header is read at every look through a root: CLIP's vocabulary would be most of it."""
    plan = plan_model(files_at(write(tmp_path, "sdxl")))
    folder = folder_of(plan, tmp_path / "folder")

    result = as_file(plan_model(files_at(folder)), "one.safetensors", None)

    assert len(result.metadata["deviceops.files"]) < 16_000
    (tensors,) = shapes(result).values()
    path = write_safetensors(tmp_path / "one.safetensors", tensors, metadata=result.metadata)
    assert plan_model(files_at(path)).tokenizers == plan.tokenizers
