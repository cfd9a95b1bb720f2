"""Weights as people have them: one variant of several, shards, and what is left in files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from domains.errors import DomainError, FailedPrecondition, Reason
from domains.model.backends.diffusers_folder import inspect_folder
from domains.model.backends.networks import build_empty, fill
from domains.model.types import ModelType
from tests.domains.model.disk import DEMO, copy_demo, edit, files_at, sketch_demo

FILE = "diffusion_pytorch_model"
HALF = f"{FILE}.fp16.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sketch_demo(tmp_path / "model")


def files_of(folder: Path, name: str) -> list[str]:
    plan = next(n for n in inspect_folder(files_at(folder)).networks if n.name == name)
    return [file.name for file in plan.files]


def refused(folder: Path) -> DomainError:
    with pytest.raises(DomainError) as caught:
        inspect_folder(files_at(folder))
    return caught.value


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "pointer": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n",
    "cut off": lambda raw: raw[: len(raw) // 2],
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=list(BROKEN))
def test_the_first_variant_that_can_be_read_is_taken(folder, damage):
    whole = folder / "vae" / HALF
    plain = folder / "vae" / f"{FILE}.safetensors"
    plain.write_bytes(damage(whole.read_bytes()))
    assert files_of(folder, "vae") == [f"vae/{HALF}"]
    whole.write_bytes(damage(whole.read_bytes()))
    error = refused(folder)
    assert error.metadata["file"] == "vae/diffusion_pytorch_model.safetensors"
    assert "vae/diffusion_pytorch_model.safetensors" in error.message


def test_a_pointer_says_how_to_fetch_what_it_points_to(folder):
    (folder / "unet" / HALF).write_bytes(BROKEN["pointer"](b""))
    error = refused(folder)
    assert error.reason is Reason.MODEL_FORMAT_UNSUPPORTED
    assert f"unet/{HALF} is a Git LFS pointer" in error.message
    assert "git lfs pull" in error.message


def shard(folder: Path) -> Path:
    """The UNet in two files with an index, which is returned."""
    whole = folder / "unet" / HALF
    tensors = load_file(whole)
    whole.unlink()
    names = sorted(tensors)
    places = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"{FILE}-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / "unet" / file)
        places |= dict.fromkeys(part, file)
    index = folder / "unet" / f"{FILE}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


def test_shards_give_the_tensors_that_one_file_gave(tmp_path):
    folder = copy_demo(tmp_path / "model")
    shard(folder)
    plans = [
        next(n for n in inspect_folder(files_at(path)).networks if n.name == "unet")
        for path in (folder, DEMO)
    ]
    assert len(plans[0].files) == 2
    found, wanted = (
        fill(
            build_empty(plan),
            data_type=torch.float32,
            device=torch.device("cpu"),
            on_bytes=lambda _: None,
        ).state_dict()
        for plan in plans
    )
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../secret.safetensors", Reason.MODEL_CONFIG_INVALID),
        ("/etc/secret.safetensors", Reason.MODEL_CONFIG_INVALID),
        ("..\\secret.safetensors", Reason.MODEL_CONFIG_INVALID),
        ("c:secret.safetensors", Reason.MODEL_CONFIG_INVALID),
        ("weights.bin", Reason.MODEL_CONFIG_INVALID),
        ("absent.safetensors", Reason.MODEL_INCOMPLETE),
        ("pipe.safetensors", Reason.MODEL_INCOMPLETE),
        ("folder.safetensors", Reason.MODEL_INCOMPLETE),
    ],
)
def test_indices_that_lead_elsewhere(folder, name, reason):
    """As in CVE-2026-69112: what an index names is opened as a file beside it or not at all."""
    index = shard(folder)
    save_file({"secret": torch.zeros(1)}, folder.parent / "secret.safetensors")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "unet" / "pipe.safetensors")
    (folder / "unet" / "folder.safetensors").mkdir()
    listed = json.loads(index.read_text())
    listed["weight_map"]["conv_in.weight"] = name
    index.write_text(json.dumps(listed))
    assert refused(folder).reason is reason


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_shard_that_is_a_link_out_of_the_root(folder, tmp_path_factory):
    index = shard(folder)
    outside = tmp_path_factory.mktemp("outside") / "secret.safetensors"
    save_file({"secret": torch.zeros(1)}, outside)
    (folder / "unet" / "link.safetensors").symlink_to(outside)
    listed = json.loads(index.read_text())
    listed["weight_map"]["conv_in.weight"] = "link.safetensors"
    index.write_text(json.dumps(listed))
    assert refused(folder).reason is Reason.PATH_OUTSIDE_ROOT


def test_a_tensor_in_two_shards_is_named(folder):
    shard(folder)
    first, second = sorted((folder / "unet").glob(f"{FILE}-*.safetensors"))
    again = load_file(first)
    name = next(iter(again))
    save_file(load_file(second) | {name: again[name]}, second)
    error = refused(folder)
    assert error.reason is Reason.MODEL_INCOMPLETE
    assert name in error.metadata["unexpected_tensors"]


EXTRAS = [
    ("text_encoder", "text_projection.weight", (128, 128)),
    ("text_encoder", "logit_scale", ()),
    ("text_encoder", "text_model.embeddings.position_ids", (1, 77)),
    ("text_encoder_2", "logit_scale", ()),
    ("vae", "model_ema.decay", ()),
    ("vae", "model_ema.encoderconv_inweight", (32, 3, 3, 3)),
]


@pytest.mark.parametrize(("component", "name", "shape"), EXTRAS)
def test_harmless_extras_are_passed_over_and_not_counted(folder, component, name, shape):
    plan = inspect_folder(files_at(folder))
    (file,) = (folder / component).glob("*.safetensors")
    save_file(load_file(file) | {name: torch.zeros(shape)}, file)
    with_extra = inspect_folder(files_at(folder))
    assert with_extra.size_bytes == plan.size_bytes
    for network in with_extra.networks:
        if network.name == component:
            build_empty(network)


def test_other_extras_are_named_as_unexpected(folder):
    (file,) = (folder / "vae").glob("*.safetensors")
    save_file(load_file(file) | {"adapter.weight": torch.zeros(2)}, file)
    plan = next(n for n in inspect_folder(files_at(folder)).networks if n.name == "vae")
    with pytest.raises(FailedPrecondition, match=r"1 unexpected \(adapter\.weight\)"):
        build_empty(plan)


@pytest.mark.parametrize(
    "name",
    [
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLControlNetPipeline",
        "StableDiffusionXLPAGPipeline",
    ],
)
def test_pipelines_that_only_add_parts_draw_from_text(folder, name):
    edit(
        folder / "model_index.json",
        _class_name=name,
        controlnet=["diffusers", "ControlNetModel"],
    )
    assert inspect_folder(files_at(folder)).type is ModelType.CHECKPOINT


def test_a_copy_of_the_folder_without_weights_names_what_it_lacks(folder):
    shutil.rmtree(folder / "vae")
    (folder / "vae").mkdir()
    shutil.copy(DEMO / "vae" / "config.json", folder / "vae")
    error = refused(folder)
    assert error.reason is Reason.MODEL_INCOMPLETE
    assert error.metadata["component"] == "vae"
