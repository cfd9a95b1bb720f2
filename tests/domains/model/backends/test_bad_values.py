"""Values of configurations, tokenizers and headers that no model has: refused at the scan."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.diffusers_folder import inspect_folder
from domains.model.backends.stored_weights import WEIGHT_TYPES
from tests.domains.model.disk import edit, files_at, rewrite_header, sketch_demo

UNET, VAE, TEXT = "unet/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER = "scheduler/scheduler_config.json"
WEIGHTS = {
    "unet": "diffusion_pytorch_model.fp16.safetensors",
    "vae": "diffusion_pytorch_model.fp16.safetensors",
    "text_encoder": "model.fp16.safetensors",
}
ENDS = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sketch_demo(tmp_path / "model")


def refusal(folder: Path) -> FailedPrecondition:
    start = time.process_time()
    with pytest.raises(FailedPrecondition) as caught:
        inspect_folder(files_at(folder))
    assert time.process_time() - start < 1
    assert str(folder) not in caught.value.message
    return caught.value


def test_a_sound_model_is_taken(folder: Path) -> None:
    inspect_folder(files_at(folder))


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (UNET, "act_fn", ["silu"]),
        (UNET, "act_fn", [["silu"]]),
        (UNET, "act_fn", None),
        (UNET, "down_block_types", [["DownBlock2D"], "DownBlock2D", "CrossAttnDownBlock2D"]),
        (UNET, "time_embedding_act_fn", 5),
        (UNET, "timestep_post_act", 5),
        (UNET, "norm_eps", "x"),
        (UNET, "norm_eps", [1]),
        (UNET, "mid_block_scale_factor", "x"),
        (UNET, "mid_block_scale_factor", 0),
        (UNET, "freq_shift", "a"),
        (UNET, "flip_sin_to_cos", "yes"),
        (UNET, "sample_size", [1, 2, 3]),
        (UNET, "sample_size", 2048),
        (UNET, "sample_size", 1),
        (UNET, "sample_size", [32, 257]),
        (UNET, "conv_in_kernel", 2),
        (UNET, "norm_num_groups", 5),
        (UNET, "attention_head_dim", [1, 2]),
        (UNET, "num_attention_heads", 8),
        (UNET, "dual_cross_attention", True),
        (UNET, "quantization_config", {"bits": 8}),
        (VAE, "act_fn", ["silu"]),
        (VAE, "out_channels", 4),
        (VAE, "scaling_factor", "0.18"),
        (VAE, "use_quant_conv", "no"),
        (TEXT, "intermediate_size", [512]),
        (TEXT, "layer_norm_eps", "x"),
        (TEXT, "attention_dropout", "x"),
        (TEXT, "bos_token_id", "x"),
        (TEXT, "eos_token_id", [1]),
        (TEXT, "max_position_embeddings", [77]),
        (TEXT, "projection_dim", [192]),
        (TEXT, "hidden_act", ["gelu"]),
        (SCHEDULER, "prediction_type", ["epsilon"]),
        (SCHEDULER, "dynamic_thresholding_ratio", "x"),
        (SCHEDULER, "lambda_min_clipped", "x"),
        (SCHEDULER, "clip_sample_range", "x"),
        (SCHEDULER, "solver_p", {"a": 1}),
        (SCHEDULER, "interpolation_type", "bogus"),
        (SCHEDULER, "timestep_spacing", ["leading"]),
        (SCHEDULER, "timestep_type", "bogus"),
        (SCHEDULER, "sigma_min", "x"),
        (SCHEDULER, "trained_betas", [0.1, 0.2]),
        (SCHEDULER, "_class_name", ["EulerDiscreteScheduler"]),
        ("model_index.json", "force_zeros_for_empty_prompt", "no"),
    ],
)
def test_a_value_that_no_class_takes_is_told_by_file_and_key(
    folder: Path, file: str, key: str, value: Any
) -> None:
    edit(folder / file, **{key: value})
    error = refusal(folder)
    assert error.reason is Reason.MODEL_CONFIG_INVALID
    assert file in error.message
    assert key in error.message
    assert error.metadata["file"] == file
    if "/" in file:
        assert error.metadata["component"] == file.split("/")[0]


def test_keys_that_no_class_has_are_ignored(folder: Path) -> None:
    for file in (UNET, VAE, TEXT, SCHEDULER):
        edit(folder / file, unheard_of={"a": [1]}, _name_or_path="x", another=None)
    inspect_folder(files_at(folder))


def test_null_stands_for_the_default_of_a_size(folder: Path) -> None:
    edit(folder / UNET, sample_size=None)
    inspect_folder(files_at(folder))


def test_a_vae_may_halve_a_picture_three_times_at_most(folder: Path) -> None:
    config = json.loads((folder / VAE).read_text())
    more = {
        key: [*config[key], config[key][-1]]
        for key in ("block_out_channels", "down_block_types", "up_block_types")
    }
    edit(folder / VAE, **more)
    assert refusal(folder).reason is Reason.MODEL_CONFIG_INVALID


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        (UNET, {"layers_per_block": 8, "transformer_layers_per_block": 1}),
        (UNET, {"transformer_layers_per_block": 8}),
        (UNET, {"block_out_channels": [64, 128, 8192]}),
        (UNET, {"conv_in_kernel": 7}),
        (VAE, {"layers_per_block": 8}),
        (VAE, {"block_out_channels": [4096] * 4}),
        (TEXT, {"num_hidden_layers": 64}),
        (TEXT, {"intermediate_size": 65536}),
        (TEXT, {"vocab_size": 1 << 20}),
        (TEXT, {"max_position_embeddings": 4096}),
    ],
)
def test_more_than_is_stored_is_refused_before_it_is_built(
    folder: Path, file: str, changes: dict[str, Any]
) -> None:
    edit(folder / file, **changes)
    error = refusal(folder)
    assert error.reason in {Reason.MODEL_INCOMPLETE, Reason.MODEL_SHAPE_INVALID}
    assert error.metadata["component"] == file.split("/")[0]


def test_a_unet_of_thousands_of_layers_is_refused_by_its_configuration(folder: Path) -> None:
    edit(
        folder / UNET,
        block_out_channels=[64] * 8,
        down_block_types=["CrossAttnDownBlock2D"] * 8,
        up_block_types=["CrossAttnUpBlock2D"] * 8,
        attention_head_dim=8,
        layers_per_block=8,
        transformer_layers_per_block=32,
    )
    error = refusal(folder)
    assert error.reason is Reason.MODEL_CONFIG_INVALID
    assert "transformer layers" in error.message


@pytest.mark.parametrize("component", WEIGHTS)
@pytest.mark.parametrize(
    "data_type",
    ["BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64"],
)
def test_weights_that_are_no_floating_point_numbers_are_refused(
    folder: Path, component: str, data_type: str
) -> None:
    def change(header: dict[str, Any]) -> None:
        for name, entry in header.items():
            if name != "__metadata__":
                entry["dtype"] = data_type

    rewrite_header(folder / component / WEIGHTS[component], change)
    error = refusal(folder)
    assert error.reason is Reason.MODEL_DTYPE_UNSUPPORTED
    assert error.metadata["component"] == component
    assert data_type in error.message


def test_one_such_weight_is_enough(folder: Path) -> None:
    def change(header: dict[str, Any]) -> None:
        header["conv_in.bias"]["dtype"] = "I64"

    rewrite_header(folder / "unet" / WEIGHTS["unet"], change)
    assert refusal(folder).metadata["tensor"] == "conv_in.bias"


@pytest.mark.parametrize("data_type", WEIGHT_TYPES)
def test_every_floating_point_type_is_taken(folder: Path, data_type: str) -> None:
    def change(header: dict[str, Any]) -> None:
        for name, entry in header.items():
            if name != "__metadata__":
                entry["dtype"] = data_type
        # A constant that older versions stored.
        header["text_model.embeddings.position_ids"] = {"dtype": "I64", "shape": [1, 77]}

    rewrite_header(folder / "text_encoder" / WEIGHTS["text_encoder"], change)
    inspect_folder(files_at(folder))


def tokenizer_json(folder: Path, **changes: Any) -> None:
    file = folder / "tokenizer" / "tokenizer.json"
    whole = json.loads(file.read_text())
    whole["model"].update(changes)
    file.write_text(json.dumps(whole))


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "WordLevel"},
        {"type": "Bogus"},
        {"type": ["BPE"]},
        {"vocab": []},
        {"vocab": {}},
        {"vocab": {"<|endoftext|>": "0"}},
        {"vocab": {"<|endoftext|>": 1 << 40}},
        {"vocab": {"<|endoftext|>": -5}},
        {"vocab": {"<|endoftext|>": 100_000}, "merges": []},
        {"vocab": {"a": 0}, "merges": []},
        {"merges": "garbage"},
        {"merges": ["garbage"]},
        {"merges": ["not known"]},
        {"merges": [["a", "b", "c"]]},
        {"merges": [1]},
    ],
)
def test_vocabularies_that_no_text_can_be_read_with(
    folder: Path, changes: dict[str, Any]
) -> None:
    tokenizer_json(folder, **changes)
    error = refusal(folder)
    assert error.reason is Reason.MODEL_CONFIG_INVALID
    assert error.metadata.get("component", "tokenizer") == "tokenizer"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"\xff"),
        ("tokenizer.json", b"[" * 100_000),
        ("tokenizer.json", b" " * (9 << 20)),
        ("tokenizer.json", b'{"model": {"vocab": {}}, "normalizer": 5}'),
        ("tokenizer.json", b'{"model": {"vocab": {}}, "pre_tokenizer": {"type": "Bogus"}}'),
        ("tokenizer.json", b'{"model": {"vocab": {}}, "decoder": {"type": "Sequence"}}'),
        ("vocab.json", b"[]"),
        ("vocab.json", b'{"a": "b"}'),
        ("vocab.json", b'{"a": 1099511627776}'),
        ("vocab.json", b'{"a": -5}'),
        ("vocab.json", b"{}"),
        ("merges.txt", b"garbage"),
        ("merges.txt", b"unknown tokens\n"),
        ("merges.txt", b"\xff\xfe"),
        ("added_tokens.json", b'{"<x>": "y"}'),
        ("added_tokens.json", b'{"<x>": -1}'),
        ("added_tokens.json", b'{"<x>": 2261}'),
        ("special_tokens_map.json", b'{"pad_token": 5}'),
        ("special_tokens_map.json", b'{"pad_token": null}'),
        ("special_tokens_map.json", b'{"pad_token": "<new>"}'),
    ],
)
def test_files_of_a_tokenizer_that_are_none(folder: Path, file: str, content: bytes) -> None:
    if file in {"vocab.json", "merges.txt"}:
        (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / file).write_bytes(content)
    error = refusal(folder)
    assert error.reason is Reason.MODEL_CONFIG_INVALID
    assert "tokenizer" in error.message


@pytest.mark.parametrize(
    "changes",
    [
        {"model_max_length": "x"},
        {"model_max_length": -1},
        {"model_max_length": 0},
        {"model_max_length": 1},
        {"bos_token": "x" * 100_000},
        {"bos_token": None},
        {"eos_token": ["<|endoftext|>"]},
        {"pad_token": None},
        {"pad_token": "<new>"},
        {"pad_token": {"content": "<|endoftext|>", "unheard_of": 1}},
        {"pad_token": {"content": "<|endoftext|>", "lstrip": "yes"}},
        {"unk_token": "<new>"},
        {"cls_token": "<new>"},
        {"padding_side": "up"},
        {"split_special_tokens": 1},
        {"image_token": "<image>"},
        {"additional_special_tokens": "x"},
        {"extra_special_tokens": {"a": "b"}},
        {"added_tokens_decoder": {"x": {"content": "a"}}},
        {"added_tokens_decoder": {"5": "a"}},
        {"added_tokens_decoder": {"3000000": {"content": "a"}}},
        {"added_tokens_decoder": {"2261": {"content": "<beyond>"}}},
        {"fast_tokenizer_files": ["tokenizer.4.json/../../../secret.json"]},
        {"init_inputs": ["x"]},
        {"gguf_file": "/etc/passwd"},
        {"vocab": {"a": 0}},
    ],
)
def test_settings_that_no_tokenizer_takes(folder: Path, changes: dict[str, Any]) -> None:
    edit(folder / "tokenizer" / "tokenizer_config.json", **changes)
    error = refusal(folder)
    assert error.reason is Reason.MODEL_CONFIG_INVALID
    assert "tokenizer" in error.message


def test_tokens_that_the_encoder_does_not_know_are_refused(folder: Path) -> None:
    file = folder / "tokenizer" / "tokenizer.json"
    whole = json.loads(file.read_text())
    whole["model"]["vocab"] = {k: v + 100_000 for k, v in whole["model"]["vocab"].items()}
    whole["added_tokens"] = []
    file.write_text(json.dumps(whole))
    error = refusal(folder)
    assert error.reason is Reason.MODEL_CONFIG_INVALID
    assert "102260" in error.message
    assert "2261" in error.message
