"""Checkpoints in one file: planned like the folders they were made from, or refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from demo.train.layouts.metadata import header
from domains.errors import FailedPrecondition, Reason
from domains.model.backends.checkpoint import inspect_checkpoint
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.model_plan import ModelPlan
from domains.model.backends.networks import build_empty, fill
from domains.model.backends.plans import fingerprint, plan_model, plan_whole
from domains.model.types import Architecture, Model, ModelType, PredictionType
from tests.domains.model.disk import DEMO, edit, files_at
from tests.domains.model.originals import refiner_file, sdxl_file, written

MODELS = DEMO.parent
NAMED = header(
    title="t",
    architecture="stable-diffusion-xl-v1-base",
    description="d",
    configuration="emoji-xl",
)


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The demo folder in one file."""
    path = tmp_path_factory.mktemp("original") / "emoji-xl.safetensors"
    return load_file(sdxl_file(path, DEMO))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file that names the demo folder's configuration."""

    def call(tensors: dict[str, torch.Tensor], **metadata: str) -> Path:
        path = tmp_path / "root" / "file.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file(tensors, path, NAMED | metadata)
        return path

    return call


def weights(plan: ModelPlan) -> dict[str, dict[str, torch.Tensor]]:
    cpu = torch.device("cpu")
    return {
        network.name: fill(
            build_empty(network), data_type=torch.float32, device=cpu, on_bytes=lambda _: None
        ).state_dict()
        for network in plan.networks
    }


@pytest.fixture(scope="module")
def folders_weights() -> dict[str, dict[str, torch.Tensor]]:
    return weights(plan_model(files_at(DEMO)))


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, network in wanted.items():
        assert found[name].keys() == network.keys()
        for key, tensor in network.items():
            assert torch.equal(found[name][key], tensor), (name, key)


def refused(path: Path) -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as caught:
        inspect_checkpoint(files_at(path))
    return caught.value


def listed(path: Path) -> Model:
    (model,) = DiskScanner([path.parent]).scan().models
    return model


def test_every_tensor_is_the_folders(tensors, write, folders_weights):
    plan = inspect_checkpoint(files_at(write(tensors)))
    folder = plan_model(files_at(DEMO))
    same(weights(plan), folders_weights)
    assert [n.config for n in plan.networks] == [n.config for n in folder.networks]
    assert plan.scheduler_config == folder.scheduler_config
    assert plan.tokenizers == folder.tokenizers
    index = plan.index["force_zeros_for_empty_prompt"]
    assert index == folder.index["force_zeros_for_empty_prompt"]


def test_the_catalogue_tells_of_it_what_it_tells_of_the_folder(tensors, write):
    model = listed(write(tensors))
    (folder,) = (m for m in DiskScanner([MODELS]).scan().models if m.model_id == "emoji-xl")
    assert model.usable
    for fact in (
        "type",
        "architecture",
        "prediction_type",
        "native_width",
        "native_height",
        "data_type",
        "parameter_count",
        "default_scheduler",
        "zero_terminal_snr",
    ):
        assert getattr(model, fact) == getattr(folder, fact), fact

    def parts(model: Model) -> list[Any]:
        return [
            (p.name, p.class_name, p.parameter_count, p.data_type) for p in model.components
        ]

    assert parts(model) == parts(folder)


EXTRAS = {
    "averaged weights": {
        "model_ema.diffusion_modelinput_blocks00weight": torch.zeros(64, 4, 3, 3),
        "model_ema.decay": torch.zeros(()),
        "model_ema.num_updates": torch.zeros((), dtype=torch.int32),
    },
    "of trainers": {
        "global_step": torch.tensor(7),
        "epoch": torch.tensor(1),
        "betas": torch.zeros(1000),
        "alphas_cumprod": torch.zeros(1000),
        "sqrt_recip_alphas_cumprod": torch.zeros(1000),
        "posterior_variance": torch.zeros(1000),
        "denoiser.sigmas": torch.zeros(1000),
        "optimizer_states.0.x": torch.zeros(2),
        "scale_factor": torch.zeros(()),
    },
    "rounded numbers of positions": {
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": torch.arange(
            77
        ).half()[None]
    },
    "of the encoders' training": {
        "conditioner.embedders.0.transformer.text_projection.weight": torch.zeros(128, 128),
        "conditioner.embedders.0.transformer.logit_scale": torch.zeros(()),
        "conditioner.embedders.1.model.attn_mask": torch.zeros(77, 77),
    },
    "of the VAE's training": {
        "first_stage_model.model_ema.decay": torch.zeros(()),
        "first_stage_model.loss.logvar": torch.zeros(()),
    },
}


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=list(EXTRAS))
def test_what_is_left_in_files_is_passed_over(tensors, write, extra, folders_weights):
    path = write(tensors | extra)
    same(weights(inspect_checkpoint(files_at(path))), folders_weights)
    assert listed(path).parameter_count == 24606027


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.input_blocks.1.0.adapter.weight",
        "first_stage_model.encoder.extra.weight",
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.rotary.weight",
        "something.else.weight",
    ],
)
def test_what_no_network_has_is_named(tensors, write, name):
    error = refused(write(tensors | {name: torch.zeros(2, 2)}))
    assert error.reason is Reason.MODEL_INCOMPLETE
    assert name in error.metadata["unexpected_tensors"]
    assert "unexpected" in error.message


@pytest.mark.parametrize(
    ("name", "called"),
    [
        (
            "model.diffusion_model.middle_block.0.in_layers.2.weight",
            "mid_block.resnets.0",
        ),
        ("first_stage_model.decoder.conv_in.weight", "decoder.conv_in.weight"),
        ("conditioner.embedders.1.model.text_projection", "text_projection.weight"),
    ],
)
def test_a_layer_that_is_missing_is_named(tensors, write, name, called):
    error = refused(write({n: tensor for n, tensor in tensors.items() if n != name}))
    assert error.reason is Reason.MODEL_INCOMPLETE
    assert called in error.metadata["missing_tensors"]


def test_a_bias_that_is_missing_is_named_before_anything_is_read(tensors, write):
    name = "model.diffusion_model.middle_block.0.in_layers.2.bias"
    plan = inspect_checkpoint(
        files_at(write({n: tensor for n, tensor in tensors.items() if n != name}))
    )
    with pytest.raises(FailedPrecondition, match=r"mid_block\.resnets\.0\.conv1\.bias"):
        [build_empty(network) for network in plan.networks]


@pytest.mark.parametrize(
    ("prefix", "component"),
    [
        ("conditioner.embedders.0.", "text_encoder"),
        ("conditioner.embedders.1.", "text_encoder_2"),
    ],
)
def test_a_network_that_is_missing_is_named_with_what_to_do(tensors, write, prefix, component):
    path = write({n: tensor for n, tensor in tensors.items() if not n.startswith(prefix)})
    error = refused(path)
    assert error.reason is Reason.MODEL_INCOMPLETE
    assert error.metadata["component"] == component
    assert "get the" in error.message
    problem = listed(path).problem
    assert problem is not None
    assert problem.message == error.message


def test_weights_of_several_types_and_of_eight_bits(tensors, write, folders_weights):
    kept = ("norm", "bias", "embedding", "ln_")
    narrow = {
        name: tensor if any(part in name for part in kept) else tensor.to(torch.float8_e4m3fn)
        for name, tensor in tensors.items()
    }
    found = weights(inspect_checkpoint(files_at(write(narrow))))
    whole = folders_weights["unet"]["conv_in.weight"]
    rounded = whole.to(torch.float8_e4m3fn).float()
    assert torch.equal(found["unet"]["conv_in.weight"], rounded)
    wide = {name: tensor.double() for name, tensor in tensors.items() if "first_stage" in name}
    mixed = inspect_checkpoint(files_at(write(tensors | wide)))
    same(weights(mixed), folders_weights)


def test_weights_of_eight_bits_are_multiplied_by_their_scale(tensors, write):
    layer = "model.diffusion_model.middle_block.1.proj_in"
    scaled = {
        f"{layer}.weight": (tensors[f"{layer}.weight"].float() / 0.25).to(torch.float8_e4m3fn),
        f"{layer}.scale_weight": torch.tensor(0.25),
        f"{layer}.scale_input": torch.tensor(1.0),
        "model.diffusion_model.scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn),
    }
    found = weights(inspect_checkpoint(files_at(write(tensors | scaled))))["unet"]
    assert torch.equal(
        found["mid_block.attentions.0.proj_in.weight"], scaled[f"{layer}.weight"].float() * 0.25
    )


def test_weights_of_whole_numbers_are_refused(tensors, write):
    name = "model.diffusion_model.middle_block.1.proj_in.weight"
    error = refused(write(tensors | {name: tensors[name].to(torch.int8)}))
    assert error.reason is Reason.MODEL_DTYPE_UNSUPPORTED


def test_marks_without_elements_tell_of_velocity_and_of_all_noise(tensors, write):
    marks = {"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}
    path = write(tensors | marks)
    scheduler = inspect_checkpoint(files_at(path)).scheduler_config
    assert scheduler["prediction_type"] == "v_prediction"
    assert scheduler["rescale_betas_zero_snr"] is True
    assert scheduler["timestep_spacing"] == "trailing"
    model = listed(path)
    assert model.usable
    assert model.prediction_type is PredictionType.V_PREDICTION
    assert model.zero_terminal_snr


def test_the_configuration_beside_a_file_tells_of_velocity(tensors, write):
    path = write(tensors)
    path.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    scheduler = inspect_checkpoint(files_at(path)).scheduler_config
    assert scheduler["prediction_type"] == "v_prediction"
    assert listed(path).prediction_type is PredictionType.V_PREDICTION


def test_models_with_another_kind_of_noise_are_refused_by_name(tensors, write):
    edm = {"edm_mean": torch.zeros(4), "edm_std": torch.ones(4)}
    error = refused(write(tensors | edm))
    assert error.reason is Reason.MODEL_INCOMPATIBLE
    assert "EDM" in error.message


def test_a_vocabulary_that_nobody_names_is_refused(tensors, tmp_path):
    error = refused(written(tmp_path / "f.safetensors", tensors, {}))
    assert error.reason in (Reason.MODEL_INCOMPLETE, Reason.MODEL_CONFIG_INVALID)


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("nothing-of-that-name", Reason.MODEL_INCOMPLETE),
        ("../root", Reason.MODEL_CONFIG_INVALID),
        ("/etc", Reason.MODEL_CONFIG_INVALID),
        ("a/b/c", Reason.MODEL_CONFIG_INVALID),
        ("", Reason.MODEL_CONFIG_INVALID),
    ],
)
def test_a_configuration_that_is_named_and_not_there(tensors, write, named, reason):
    path = write(tensors, **{"deviceops.configuration": named})
    assert refused(path).reason is reason


def test_the_folder_beside_a_file_comes_before_the_one_that_came_with_the_program(
    tensors, write
):
    path = write(tensors)
    other = path.parent / "emoji-xl" / "vae"
    other.mkdir(parents=True)
    (other / "config.json").write_text(
        (DEMO / "vae" / "config.json").read_text().replace("0.13025", "0.25")
    )
    for name in ("unet", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        shutil.copytree(
            DEMO / name,
            other.parent / name,
            ignore=shutil.ignore_patterns("*.safetensors"),
        )
    plan = inspect_checkpoint(files_at(path))
    assert plan.networks[-1].config["scaling_factor"] == 0.25


def test_a_folder_that_comes_later_makes_the_file_usable(tensors, tmp_path):
    named = {"deviceops_configuration": "mine"}
    written(tmp_path / "own.safetensors", tensors, named)
    scanner = DiskScanner([tmp_path])
    (model,) = scanner.scan().models
    assert model.problem is not None
    assert model.problem.metadata["missing"] == "mine"
    ignored = shutil.ignore_patterns("*.safetensors", "model_index.json")
    shutil.copytree(DEMO, tmp_path / "mine", ignore=ignored)
    (model,) = scanner.scan().models
    assert model.usable, model.problem


@pytest.fixture
def named_folder(tensors, tmp_path) -> Path:
    """What a checkpoint beside it names as its configuration."""
    written(tmp_path / "own.safetensors", tensors, {"deviceops_configuration": "mine"})
    ignored = shutil.ignore_patterns("*.safetensors", "model_index.json")
    shutil.copytree(DEMO, tmp_path / "mine", ignore=ignored)
    return tmp_path / "mine"


def test_a_folder_that_changes_is_read_again(named_folder):
    scanner = DiskScanner([named_folder.parent])
    (first,) = scanner.scan().models
    (same,) = scanner.scan().models
    schedule = named_folder / "scheduler" / "scheduler_config.json"
    edit(schedule, rescale_betas_zero_snr=True)
    (changed,) = scanner.scan().models
    edit(schedule, num_train_timesteps="many")
    (bad,) = scanner.scan().models
    edit(schedule, num_train_timesteps=1000)
    (good,) = scanner.scan().models

    assert same is first
    assert (first.zero_terminal_snr, changed.zero_terminal_snr) == (False, True)
    assert bad.problem is not None
    assert bad.problem.reason is Reason.MODEL_CONFIG_INVALID
    assert good.usable


def test_a_fingerprint_tells_of_what_a_file_leaves_to_others(named_folder):
    files = files_at(named_folder.parent / "own.safetensors")
    seen = [fingerprint(files)]

    def look() -> None:
        seen.append(fingerprint(files))

    beside = named_folder.parent / "own.yaml"
    beside.write_text("parameterization: eps")
    look()
    beside.write_text("parameterization: v")
    look()
    edit(named_folder / "unet" / "config.json", sample_size=64)
    look()
    (named_folder / "tokenizer" / "merges.txt").write_text("")
    look()
    beside.unlink()
    look()
    shutil.rmtree(named_folder)
    look()

    assert len(set(seen)) == len(seen)
    look()
    assert seen[-1] == seen[-2]


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 99])
def test_a_damaged_file_has_a_fingerprint(tmp_path, content):
    path = tmp_path / "own.safetensors"
    path.write_bytes(content)

    assert len(fingerprint(files_at(path))) == 1


def test_a_refiner_is_planned_and_is_no_checkpoint(tmp_path):
    path, refiner = refiner_file(tmp_path)
    plan = plan_model(files_at(path))
    assert (plan.type, plan.architecture) == (ModelType.REFINER, Architecture.SDXL)
    assert plan.index["requires_aesthetics_score"] is True
    same({"unet": weights(plan)["unet"]}, {"unet": dict(refiner.state_dict())})
    with pytest.raises(FailedPrecondition, match="refiner"):
        plan_whole(files_at(path), ModelType.CHECKPOINT)
    model = next(m for m in DiskScanner([tmp_path]).scan().models if m.model_id == "refiner")
    assert model.usable
    assert model.remarks == ()


def test_one_header_is_parsed_and_no_weight_is_read_for_a_plan(tensors, write):
    path = write(tensors)
    plan = inspect_checkpoint(files_at(path))
    read: list[int] = []
    network = next(n for n in plan.networks if n.name == "vae")
    fill(
        build_empty(network),
        data_type=torch.float32,
        device=torch.device("cpu"),
        on_bytes=read.append,
    )
    assert sum(read) == network.size_bytes < path.stat().st_size / 4


def test_one_without_a_vae_is_a_model_that_requests_lend_one(tensors, write):
    bare = {name: each for name, each in tensors.items() if "first_stage_model" not in name}
    path = write(bare)
    plan, folder = inspect_checkpoint(files_at(path)), plan_model(files_at(DEMO))
    assert [each.name for each in plan.networks] == ["text_encoder", "text_encoder_2", "unet"]
    assert plan.borrowed == ("vae",)
    assert plan.configs == folder.configs
    assert not plan.draws_from_text
    model = listed(path)
    assert model.usable
    assert model.lacks_vae
    assert not model.borrows
    assert (model.native_width, model.native_height) == (256, 256)
    assert any("vae_model_id" in remark for remark in model.remarks)


def test_half_a_vae_is_a_damaged_file(tensors, write):
    half = {name: each for name, each in tensors.items() if "decoder.up" not in name}
    error = refused(write(half))
    assert error.reason is Reason.MODEL_INCOMPLETE
    assert not listed(write(half)).usable


def test_a_refiner_without_a_vae_is_refused(tmp_path):
    path, _ = refiner_file(tmp_path)
    tensors = load_file(path)
    bare = {name: each for name, each in tensors.items() if "first_stage_model" not in name}
    error = refused(written(path, bare, {}))
    assert error.reason is Reason.MODEL_INCOMPLETE
    assert error.metadata == {"component": "vae"}
