"""What trainings write becomes files that diffusers opens as the models they are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from safetensors import safe_open
from safetensors.torch import load_file

from demo.train import comic, controlnet_canny, package, refiner, sd1, sd1_vae
from demo.train.parts.base import BASE, BaseModel, load_base
from demo.train.parts.files import save_half
from demo.train.srvgg import Compact
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.types import Architecture, ModelType

RANK = 2


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base(device="cpu")


@pytest.fixture(scope="module")
def trained(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every training writes, from networks that were not trained."""
    folder = tmp_path_factory.mktemp("trained")

    def place(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    torch.manual_seed(5)
    for style in ("line-art", "pixel-art"):
        stem = "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
        lora = {
            f"{stem}.lora_A.weight": torch.randn(RANK, 128),
            f"{stem}.lora_B.weight": torch.randn(128, RANK),
        }
        told = {
            "ss_network_alpha": "1",
            "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
            "modelspec.trigger_phrase": f"{style} style",
        }
        save_half(lora, place(style) / f"{style}.safetensors", told)
    save_half(
        controlnet_canny.build(base.unet), place("controlnet") / "emoji-canny.safetensors"
    )
    save_half(refiner.build_unet(192), place("refiner") / "emoji-refiner.safetensors")
    out = place("comic")
    for number, shard in enumerate(comic.shards(base.unet.state_dict()), start=1):
        save_half(shard, out / f"unet-{number}.safetensors")
    save_half(base.text_encoder, out / "text_encoder.safetensors")
    save_half(base.text_encoder_2, out / "text_encoder_2.safetensors")
    (out / "comic.json").write_text("{}")
    decoder = {
        name: tensor + 1
        for name, tensor in base.vae.state_dict().items()
        if name.startswith(("decoder.", "post_quant_conv."))
    }
    save_half(decoder, place("vae") / "vae-decoder.safetensors")
    parts = {"unet": sd1.build_unet(128)}
    out = place("sd1")
    weights = {
        f"{name}.{key}": tensor
        for name, part in {**parts, "text_encoder": base.text_encoder}.items()
        for key, tensor in part.state_dict().items()
    }
    save_half(weights, out / "emoji-sd1.safetensors")
    save_half(sd1_vae.build_vae(), out / "emoji-sd1-vae.safetensors")
    for scale in (4, 2):
        place(f"upscaler-{scale}x")
        out = folder / f"upscaler-{scale}x" / f"compact-{scale}x.safetensors"
        save_half(Compact(scale=scale), out)
    rows = {"clip_l": torch.zeros(4, 128), "clip_g": torch.zeros(4, 192)}
    save_half(rows, place("embedding") / "emoji-embedding.safetensors")
    return folder


@pytest.fixture(scope="module")
def models(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "emoji-xl").symlink_to(BASE)
    arguments = ["--trained", str(trained), "--models", str(folder)]
    assert package.main([*arguments, "--configs", str(folder.parent / "configs")]) == 0
    return folder


@pytest.fixture(scope="module")
def configs(models: Path) -> Path:
    return models.parent / "configs"


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def same(network: Any, expected: dict[str, torch.Tensor]) -> None:
    state = network.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor.half().float()), name


def test_loras_come_in_both_namings_and_keep_what_they_say(models: Path) -> None:
    line, pixel = models / "line-art.safetensors", models / "pixel-art.safetensors"
    stem = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    assert load_file(line)[f"{stem}.alpha"].item() == 1.0
    assert all(name.startswith("unet.down_blocks.1.") for name in load_file(pixel))
    assert metadata(line)["modelspec.trigger_phrase"] == "line-art style"


def test_the_control_net_opens_by_its_folder(models: Path, base: BaseModel) -> None:
    network = ControlNetModel.from_pretrained(models / "emoji-canny")
    same(network, load_file(models / "emoji-canny" / "diffusion_pytorch_model.safetensors"))
    assert network.config.mid_block_type == "UNetMidBlock2D"
    assert torch.equal(network.conv_in.weight, base.unet.conv_in.weight)


def test_the_refiner_opens_with_what_it_shares_with_the_base(
    models: Path, base: BaseModel
) -> None:
    pipeline = StableDiffusionXLImg2ImgPipeline.from_pretrained(
        models / "emoji-refiner",
        text_encoder_2=base.text_encoder_2,
        vae=base.vae,
        dtype=torch.float32,
    )
    assert pipeline.config.requires_aesthetics_score
    assert pipeline.text_encoder is None
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline(
        "a robot",
        image=torch.zeros(1, 4, 8, 8),
        num_inference_steps=4,
        strength=0.25,
        original_size=(256, 256),
        target_size=(256, 256),
        output_type="latent",
    ).images
    assert latents.shape == (1, 4, 8, 8)
    assert latents.isfinite().all()


def test_the_comic_file_is_a_whole_checkpoint(models: Path, base: BaseModel) -> None:
    path = models / "emoji-comic.safetensors"
    assert metadata(path)["deviceops.configuration"] == "emoji-xl"
    pipeline = StableDiffusionXLPipeline.from_single_file(
        str(path), config=str(BASE), local_files_only=True, dtype=torch.float32
    )
    same(pipeline.unet, base.unet.state_dict())
    same(pipeline.vae, base.vae.state_dict())


def test_the_vae_file_has_the_base_encoder_and_the_trained_decoder(
    models: Path, base: BaseModel
) -> None:
    vae = AutoencoderKL.from_single_file(
        str(models / "emoji-vae.safetensors"),
        config=str(BASE),
        subfolder="vae",
        local_files_only=True,
    )
    assert torch.equal(vae.encoder.conv_in.weight, base.vae.encoder.conv_in.weight)
    changed = vae.decoder.conv_in.weight - base.vae.decoder.conv_in.weight
    torch.testing.assert_close(changed, torch.ones_like(changed), atol=1e-3, rtol=0)


def test_the_sd1_file_draws_with_its_configuration(models: Path, configs: Path) -> None:
    path = models / "emoji-sd1.safetensors"
    pipeline = StableDiffusionPipeline.from_single_file(
        str(path),
        config=str(configs / "emoji-sd1"),
        local_files_only=True,
        dtype=torch.float32,
    )
    trained = load_file(path)
    name = "model.diffusion_model.input_blocks.0.0.weight"
    assert torch.equal(pipeline.unet.conv_in.weight, trained[name].float())
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    latents = pipeline(
        "a robot",
        num_inference_steps=2,
        height=64,
        width=64,
        generator=generator,
        output_type="latent",
    ).images
    assert latents.isfinite().all()


def test_sizes_are_told_and_within_the_budget(models: Path) -> None:
    sizes = package.sizes_of(models)
    assert len(sizes) == len(package.ARTEFACTS)
    assert 45_000_000 < sizes["emoji-comic.safetensors"] < 50_000_000
    assert f"{sum(sizes.values()):,} bytes" in package.table(sizes).splitlines()[-1]


def test_a_family_over_budget_is_refused(
    models: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    only = tmp_path / "trained"
    shutil.copytree(trained / "embedding", only)
    monkeypatch.setattr(package, "BUDGET", 1_000)
    arguments = ["--trained", str(only), "--models", str(models)]
    assert package.main([*arguments, "--configs", str(tmp_path)]) == 1
    assert "more than the 1,000 bytes" in capsys.readouterr().err


def refused(trained: Path, capsys: Any) -> str:
    """What is said when `trained` is packaged."""
    models = trained.parent / "models"
    models.mkdir(exist_ok=True)
    (models / "emoji-xl").symlink_to(BASE)
    arguments = ["--trained", str(trained), "--models", str(models)]
    with pytest.raises(SystemExit):
        package.main([*arguments, "--configs", str(models)])
    error: str = capsys.readouterr().err
    return error


def test_a_folder_without_trainings_is_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "trained").mkdir()
    assert "nothing that a training writes" in refused(tmp_path / "trained", capsys)


def test_a_missing_folder_is_refused(tmp_path: Path, capsys: Any) -> None:
    assert "is not a folder" in refused(tmp_path / "nowhere", capsys)


def test_a_training_that_is_there_twice_is_refused(
    trained: Path, tmp_path: Path, capsys: Any
) -> None:
    for name in ("first", "second"):
        shutil.copytree(trained / "embedding", tmp_path / "trained" / name)
    assert "is there twice" in refused(tmp_path / "trained", capsys)


def test_a_comic_with_a_shard_missing_is_refused(
    trained: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "trained"
    shutil.copytree(trained / "comic", out)
    (out / "unet-2.safetensors").unlink()
    assert "The comic UNet lacks" in refused(out, capsys)


def test_an_upscaler_of_another_scale_is_refused(
    trained: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "trained"
    out.mkdir()
    source = trained / "upscaler-2x" / "compact-2x.safetensors"
    shutil.copy(source, out / "compact-4x.safetensors")
    assert "compact-4x enlarges 2 times" in refused(out, capsys)


def test_the_catalogue_tells_what_each_file_is(models: Path) -> None:
    scan = DiskScanner([models]).scan()
    told = {model.path.name: (model.type, model.architecture) for model in scan.models}
    expected = {
        "line-art.safetensors": (ModelType.LORA, Architecture.SDXL),
        "pixel-art.safetensors": (ModelType.LORA, Architecture.SDXL),
        "diffusion_pytorch_model.safetensors": (ModelType.CONTROL_NET, Architecture.SDXL),
        "emoji-refiner": (ModelType.REFINER, Architecture.SDXL),
        "emoji-comic.safetensors": (ModelType.CHECKPOINT, Architecture.SDXL),
        "emoji-sd1.safetensors": (ModelType.CHECKPOINT, Architecture.SD1),
        "emoji-vae.safetensors": (ModelType.VAE, Architecture.SDXL),
        "compact-4x.safetensors": (ModelType.UPSCALER, None),
        "compact-2x.safetensors": (ModelType.UPSCALER, None),
        "emoji-embedding.safetensors": (ModelType.EMBEDDING, Architecture.SDXL),
    }
    assert told == expected
