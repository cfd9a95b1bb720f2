"""Files and folders with real names and shapes become each other, by their headers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from domains.model.backends.inspector.rearranged import Rearranged, as_file, as_folder
from domains.model.backends.model_plan import ModelPlan
from domains.model.backends.plans import plan_model
from tests.domains.model.corpus.kinds import kinds, write
from tests.domains.model.corpus.parts import Shapes, part
from tests.domains.model.disk import files_at, write_safetensors

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
}
ENCODERS = {"sd1": ("clip-l",), "sdxl": ("clip-l", "openclip-g"), "sd2": ("openclip-h",)}


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
    for number, encoder in enumerate(ENCODERS[name.split("-")[0]], 1):
        place = "text_encoder" if number == 1 else f"text_encoder_{number}"
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
