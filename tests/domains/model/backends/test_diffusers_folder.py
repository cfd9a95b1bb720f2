"""Model folders: what is found, what is refused, and what never gets built."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.diffusers_folder import inspect_folder
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.networks import build_empty, fill
from domains.model.backends.plans import fingerprint
from domains.model.types import Architecture
from tests.domains.model.disk import files_at

MODEL = Path(__file__).parents[4] / "demo" / "models" / "emoji-xl"
VAE = "diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture
def folder(tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(MODEL, copy)
    return copy


def edit(file, **changes):
    config = json.loads(file.read_text())
    config.update(changes)
    file.write_text(json.dumps(config))


def plan_of(folder, name):
    return next(plan for plan in inspect_folder(files_at(folder)).networks if plan.name == name)


def refused(act):
    with pytest.raises(FailedPrecondition) as caught:
        act()
    return caught.value


def load(plan, data_type=torch.float32, on_bytes=lambda _: None):
    return fill(
        build_empty(plan),
        data_type=data_type,
        device=torch.device("cpu"),
        on_bytes=on_bytes,
    )


def test_the_demo_model():
    plan = inspect_folder(files_at(MODEL))
    assert plan.architecture is Architecture.SDXL
    assert [network.name for network in plan.networks] == [
        "text_encoder",
        "text_encoder_2",
        "unet",
        "vae",
    ]
    assert 48_000_000 < plan.size_bytes < 50_000_000
    assert plan.scheduler_config["num_train_timesteps"] == 1000


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("unet/config.json", {"layers_per_block": 200_000}),
        ("unet/config.json", {"layers_per_block": [2, 2, 200]}),
        ("unet/config.json", {"transformer_layers_per_block": [1, 2, [1, 9999]]}),
        ("unet/config.json", {"block_out_channels": [64, 128, 1 << 30]}),
        ("unet/config.json", {"block_out_channels": [64, 128]}),
        ("unet/config.json", {"block_out_channels": [64.5, 128, 192]}),
        ("unet/config.json", {"block_out_channels": []}),
        ("unet/config.json", {"down_block_types": ["os.system"] * 3}),
        ("unet/config.json", {"act_fn": "__import__"}),
        ("unet/config.json", {"x": [[[[[[1]]]]]]}),
        ("unet/config.json", {"x": float("nan")}),
        ("unet/config.json", {"x": "y" * 1000}),
        ("vae/config.json", {"latent_channels": 1 << 20}),
        ("vae/config.json", {"scaling_factor": 0}),
        ("vae/config.json", {"latents_mean": [1, 2]}),
        ("text_encoder/config.json", {"num_hidden_layers": 10_000}),
        ("text_encoder/config.json", {"vocab_size": 1 << 23}),
        ("text_encoder_2/config.json", {"hidden_size": 193}),
        ("text_encoder_2/config.json", {"hidden_act": "evil"}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}),
        ("scheduler/scheduler_config.json", {"prediction_type": "bogus"}),
        ("scheduler/scheduler_config.json", {"solver_order": 99}),
        ("scheduler/scheduler_config.json", {"beta_end": 2}),
        (
            "scheduler/scheduler_config.json",
            {"use_karras_sigmas": True, "use_beta_sigmas": True},
        ),
        ("model_index.json", {"unet": ["os", "system"]}),
        ("model_index.json", {"unet": ["diffusers", "UNetOther"]}),
        ("model_index.json", {"extra": ["os", "system"]}),
    ],
)
def test_bad_configurations_are_refused_at_once(folder, file, changes):
    edit(folder / file, **changes)
    start = time.thread_time()
    error = refused(lambda: inspect_folder(files_at(folder)))
    assert error.reason is Reason.MODEL_CONFIG_INVALID
    assert time.thread_time() - start < 2  # of computing, whatever else the machine does


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b" " * (2 << 20)])
def test_unreadable_configurations(folder, content):
    (folder / "unet" / "config.json").write_bytes(content)
    assert (
        refused(lambda: inspect_folder(files_at(folder))).reason is Reason.MODEL_CONFIG_INVALID
    )


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "unet/config.json",
        f"vae/{VAE}",
        "scheduler/scheduler_config.json",
        "tokenizer",
    ],
)
def test_missing_parts(folder, missing):
    target = folder / missing
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    error = refused(lambda: inspect_folder(files_at(folder)))
    assert error.reason is Reason.MODEL_INCOMPLETE
    assert str(folder) not in error.message


def test_other_things_than_a_model(tmp_path, folder):
    file = tmp_path / "file.safetensors"
    file.write_bytes(b"x")
    unsupported = Reason.MODEL_FORMAT_UNSUPPORTED
    assert refused(lambda: inspect_folder(files_at(file))).reason is unsupported
    edit(folder / "model_index.json", _class_name="FluxPipeline")
    assert refused(lambda: inspect_folder(files_at(folder))).reason is unsupported
    edit(folder / "model_index.json", _class_name=["pipeline", "Custom"])
    assert refused(lambda: inspect_folder(files_at(folder))).reason is unsupported


def test_one_without_a_vae_is_a_model_that_requests_lend_one(folder):
    whole = inspect_folder(files_at(folder))
    edit(folder / "model_index.json", vae=[None, None])
    told = inspect_folder(files_at(folder))
    shutil.rmtree(folder / "vae")
    bare = inspect_folder(files_at(folder))
    assert told.borrowed == bare.borrowed == ("vae",)
    assert told.configs == whole.configs
    # What all of the family have, where nothing says it.
    assert bare.configs["vae"]["block_out_channels"] == [128, 256, 512, 512]
    assert bare.configs["vae"]["scaling_factor"] == 0.13025
    (model,) = DiskScanner([folder.parent]).scan().models
    assert model.usable
    assert (model.lacks_vae, model.borrows) == (True, False)
    assert model.native_width == 256
    assert any("vae_model_id" in remark for remark in model.remarks)


def test_a_refiner_is_told_apart(folder):
    edit(folder / "model_index.json", text_encoder=[None, None])
    assert refused(lambda: inspect_folder(files_at(folder))).reason is Reason.MODEL_INCOMPATIBLE


@pytest.mark.parametrize(
    ("file", "changes", "why"),
    [
        ("unet/config.json", {"addition_embed_type": None}, "no size and pooled text"),
        ("unet/config.json", {"addition_time_embed_dim": 8}, "another pooled text or size"),
        ("unet/config.json", {"cross_attention_dim": 64}, "different widths"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "inputs that SDXL does not have"),
        ("unet/config.json", {"in_channels": 8}, "disagree about the latents"),
    ],
)
def test_parts_that_make_no_model_together(folder, file, changes, why):
    edit(folder / file, **changes)
    error = refused(lambda: inspect_folder(files_at(folder)))
    assert error.reason is Reason.MODEL_INCOMPATIBLE
    assert why in error.message


def test_what_a_configuration_leaves_out_is_the_classes_default(folder):
    for name, keys in {"unet": ["sample_size"], "vae": ["scaling_factor"]}.items():
        file = folder / name / "config.json"
        config = json.loads(file.read_text())
        for key in keys:
            del config[key]
        file.write_text(json.dumps(config))
    assert plan_of(folder, "unet").config["sample_size"] == 128
    assert plan_of(folder, "vae").config["scaling_factor"] == 0.18215


def test_code_of_a_part_is_refused_and_not_run(folder):
    (folder / "unet" / "layers.py").write_text("raise SystemExit")
    error = refused(lambda: inspect_folder(files_at(folder)))
    assert error.reason is Reason.MODEL_CONFIG_INVALID
    assert "unet folder holds Python code" in error.message


def test_code_beside_the_index_is_refused_only_where_that_names_it(folder):
    (folder / "handler.py").write_text("raise SystemExit")
    inspect_folder(files_at(folder))
    index = folder / "model_index.json"
    given = json.loads(index.read_text())
    index.write_text(json.dumps(given | {"unet": ["handler", "UNet2DConditionModel"]}))
    error = refused(lambda: inspect_folder(files_at(folder)))
    assert error.reason is Reason.MODEL_CONFIG_INVALID
    index.write_text(json.dumps(given | {"_class_name": ["handler", "Pipeline"]}))
    error = refused(lambda: inspect_folder(files_at(folder)))
    assert error.reason is Reason.MODEL_FORMAT_UNSUPPORTED


def test_code_beside_the_index_is_remarked_on(folder):
    (scanned,) = DiskScanner([folder.parent]).scan().models
    (folder / "handler.py").write_text("raise SystemExit")
    (again,) = DiskScanner([folder.parent]).scan(full=True).models
    assert scanned.usable
    assert again.usable
    said = "The Python code beside it is never run."
    assert (said in scanned.remarks, said in again.remarks) == (False, True)


def test_plain_weights_come_before_half_ones(folder):
    shutil.copy(folder / "vae" / VAE, folder / "vae" / "diffusion_pytorch_model.safetensors")
    shutil.copy(
        folder / "vae" / VAE, folder / "vae" / "diffusion_pytorch_model.odd.safetensors"
    )
    (file,) = plan_of(folder, "vae").files
    assert file.name == "vae/diffusion_pytorch_model.safetensors"
    (folder / file.name).unlink()
    (folder / "vae" / VAE).unlink()
    (file,) = plan_of(folder, "vae").files
    assert file.name == "vae/diffusion_pytorch_model.odd.safetensors"


def shard(folder, names=("a", "b")):
    tensors = load_file(folder / "vae" / VAE)
    (folder / "vae" / VAE).unlink()
    keys = sorted(tensors)
    places = {}
    for index, name in enumerate(names):
        part = keys[index :: len(names)]
        save_file({k: tensors[k] for k in part}, folder / "vae" / f"{name}.safetensors")
        places |= dict.fromkeys(part, f"{name}.safetensors")
    index_file = folder / "vae" / "diffusion_pytorch_model.safetensors.index.fp16.json"
    index_file.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index_file, places


def test_shards_are_one_network(folder):
    whole = load(plan_of(MODEL, "vae")).state_dict()
    shard(folder)
    parts = load(plan_of(folder, "vae")).state_dict()
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "x.bin", "a\\b.safetensors"]
)
def test_a_shard_index_names_plain_files_only(folder, name):
    index_file, places = shard(folder)
    places[next(iter(places))] = name
    index_file.write_text(json.dumps({"weight_map": places}))
    assert (
        refused(lambda: inspect_folder(files_at(folder))).reason is Reason.MODEL_CONFIG_INVALID
    )


def test_a_missing_shard(folder):
    shard(folder)
    (folder / "vae" / "b.safetensors").unlink()
    assert refused(lambda: inspect_folder(files_at(folder))).reason is Reason.MODEL_INCOMPLETE


@pytest.mark.parametrize("network", ["text_encoder", "unet", "vae"])
def test_missing_and_unknown_weights_are_named(folder, network):
    file = next((folder / network).glob("*.safetensors"))
    tensors = load_file(file)
    lost = next(name for name in tensors if name.endswith("bias"))
    tensors["stranger"] = tensors.pop(lost)
    save_file(tensors, file)
    error = refused(lambda: build_empty(plan_of(folder, network)))
    assert error.reason is Reason.MODEL_INCOMPLETE
    assert error.metadata["component"] == network
    assert error.metadata["missing_count"] == "1"
    assert error.metadata["unexpected_tensors"] == "stranger"
    assert error.metadata["missing_tensors"] in lost


def test_weights_of_another_shape(folder):
    file = folder / "vae" / VAE
    tensors = load_file(file)
    tensors["decoder.conv_in.bias"] = torch.zeros(3)
    save_file(tensors, file)
    error = refused(lambda: build_empty(plan_of(folder, "vae")))
    assert error.reason is Reason.MODEL_SHAPE_INVALID


def test_prefixes_and_old_constants_of_text_encoders(folder):
    whole = load(plan_of(MODEL, "text_encoder")).state_dict()
    file = next((folder / "text_encoder").glob("*.safetensors"))
    tensors = load_file(file)
    plain = {key.removeprefix("text_model."): value for key, value in tensors.items()}
    plain["embeddings.position_ids"] = torch.arange(77)[None]
    save_file(plain, file)
    renamed = load(plan_of(folder, "text_encoder")).state_dict()
    assert whole.keys() == renamed.keys()
    assert all(torch.equal(whole[key], renamed[key]) for key in whole)


def test_old_names_of_vae_attention(folder):
    whole = load(plan_of(MODEL, "vae")).state_dict()
    file = folder / "vae" / VAE
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value."}
    names |= {".to_out.0.": ".proj_attn."}
    tensors = {}
    for key, value in load_file(file).items():
        for new, old in names.items():
            key = key.replace(new, old)
        tensors[key] = value
    save_file(tensors, file)
    renamed = load(plan_of(folder, "vae")).state_dict()
    assert all(torch.equal(whole[key], renamed[key]) for key in whole)


def test_a_file_that_changes_after_it_was_checked(folder):
    plan = plan_of(folder, "vae")
    empty = build_empty(plan)
    file = folder / "vae" / VAE
    file.write_bytes(file.read_bytes()[:-10])
    error = refused(
        lambda: fill(
            empty,
            data_type=torch.float32,
            device=torch.device("cpu"),
            on_bytes=lambda _: None,
        )
    )
    assert error.reason is Reason.MODEL_TRUNCATED


def test_every_byte_is_told_and_a_stop_passes_through():
    counted = []
    plan = plan_of(MODEL, "vae")
    load(plan, on_bytes=counted.append)
    assert sum(counted) == plan.size_bytes

    class Stop(Exception):
        pass

    def stop(_):
        raise Stop

    with pytest.raises(Stop):
        load(plan, on_bytes=stop)


def test_a_fingerprint_notices_changes(folder):
    before = fingerprint(files_at(folder))
    assert before == fingerprint(files_at(folder))
    edit(folder / "scheduler" / "scheduler_config.json", steps_offset=0)
    assert fingerprint(files_at(folder)) != before
