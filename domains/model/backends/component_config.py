"""The configuration files of a model folder, read with bounds on every number.

A configuration decides how many layers are built and how long the noise schedule is, so
an unchecked one can take hours or all memory (`layers_per_block: 200000` does). Every
value is bounded; the keys that size something are also checked for their kind.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from domains.errors import FailedPrecondition, Reason

Config = dict[str, Any]

MAX_CONFIG_BYTES = 1 << 20
_MAX_SHARD_INDEX_BYTES = 8 << 20
_MAX_SHARDS = 256
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.safetensors")
_MAX_BLOCKS = 8
_MAX_DEPTH = 4
_MAX_LIST = 64
_MAX_TEXT = 512
_MAX_INTEGER = 1 << 24
# A noise schedule may be spelled out, one number per training timestep.
_MAX_TRAIN_TIMESTEPS = 10_000

# Key -> least and greatest whole number; the value may be a (nested) list of such numbers.
_UNET_WHOLE = {
    "addition_time_embed_dim": (1, 4096),
    "attention_head_dim": (1, 1024),
    "block_out_channels": (8, 8192),
    "cross_attention_dim": (1, 16384),
    "in_channels": (1, 64),
    "layers_per_block": (1, 8),
    "norm_num_groups": (1, 256),
    "num_attention_heads": (1, 256),
    "out_channels": (1, 64),
    "projection_class_embeddings_input_dim": (1, 65536),
    "sample_size": (1, 2048),
    "time_embedding_dim": (1, 16384),
    "transformer_layers_per_block": (0, 32),
    "reverse_transformer_layers_per_block": (0, 32),
    "conv_in_kernel": (1, 7),
    "conv_out_kernel": (1, 7),
}
_VAE_WHOLE = {
    "block_out_channels": (8, 4096),
    "in_channels": (1, 16),
    "latent_channels": (1, 64),
    "layers_per_block": (1, 8),
    "norm_num_groups": (1, 256),
    "out_channels": (1, 16),
    "sample_size": (1, 8192),
}
_TEXT_WHOLE = {
    "hidden_size": (8, 16384),
    "intermediate_size": (8, 65536),
    "max_position_embeddings": (2, 4096),
    "num_attention_heads": (1, 256),
    "num_hidden_layers": (1, 96),
    "projection_dim": (1, 16384),
    "vocab_size": (4, 1 << 20),
}
_SCHEDULER_WHOLE = {
    "num_train_timesteps": (1, _MAX_TRAIN_TIMESTEPS),
    "solver_order": (1, 3),
    "steps_offset": (0, _MAX_TRAIN_TIMESTEPS),
}
_UNET_WORDS: dict[str, set[Any]] = {
    "down_block_types": {"DownBlock2D", "CrossAttnDownBlock2D"},
    "up_block_types": {"UpBlock2D", "CrossAttnUpBlock2D"},
    "mid_block_type": {"UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None},
    "act_fn": {"silu", "swish", "mish", "gelu", "relu"},
    "attention_type": {"default"},
}
_VAE_WORDS: dict[str, set[Any]] = {
    "down_block_types": {"DownEncoderBlock2D"},
    "up_block_types": {"UpDecoderBlock2D"},
    "act_fn": {"silu", "swish", "mish", "gelu", "relu"},
}
_TEXT_WORDS: dict[str, set[Any]] = {
    "hidden_act": {"quick_gelu", "gelu", "gelu_new", "relu", "silu"}
}
_SCHEDULER_WORDS: dict[str, set[Any]] = {
    "prediction_type": {"epsilon", "v_prediction", "sample"},
    "beta_schedule": {"linear", "scaled_linear", "squaredcos_cap_v2"},
    "timestep_spacing": {"linspace", "leading", "trailing"},
    "algorithm_type": {"deis", "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"},
    "final_sigmas_type": {"zero", "sigma_min"},
}
_SIGMA_SWITCHES = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


def read_config(path: Path, *, called: str) -> Config:
    """Read one JSON object of at most 1 MiB; `called` names it in messages.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE when there is no such file,
            MODEL_CONFIG_INVALID when it is too large, not JSON, or holds a number,
            text or list beyond any sensible bound.
    """
    parsed = _read_object(path, called, MAX_CONFIG_BYTES)
    _check_bounds(parsed, called, "", 0)
    return parsed


def read_shard_names(path: Path, *, called: str) -> list[str]:
    """The weight files that an index of a sharded network lists, each a plain name.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE or MODEL_CONFIG_INVALID.
    """
    places = _read_object(path, called, _MAX_SHARD_INDEX_BYTES).get("weight_map")
    if not isinstance(places, dict) or not places:
        _refuse(called, "does not list its weight files")
    names = {name for name in places.values() if isinstance(name, str)}
    if len(names) > _MAX_SHARDS or any(not _SHARD_NAME.fullmatch(name) for name in names):
        _refuse(called, "lists weight files by unsafe names")
    return sorted(names)


def check_unet(config: Mapping[str, Any]) -> None:
    """Refuse a UNet that cannot be built in bounded time.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
    """
    _check_keys("unet/config.json", config, _UNET_WHOLE, _UNET_WORDS)
    _check_blocks("unet/config.json", config, required=("in_channels", "out_channels"))


def check_vae(config: Mapping[str, Any]) -> None:
    """Refuse a VAE that cannot be built in bounded time or has no usable scale.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
    """
    called = "vae/config.json"
    _check_keys(called, config, _VAE_WHOLE, _VAE_WORDS)
    _check_blocks(called, config, required=("latent_channels",))
    scale = config.get("scaling_factor", 0.18215)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < 1e3:
        _refuse(called, "has no usable scaling_factor")
    for key in ("latents_mean", "latents_std"):
        values = config.get(key)
        if values is not None and (
            not isinstance(values, list)
            or len(values) != config["latent_channels"]
            or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values)
        ):
            _refuse(called, f"has an unusable {key}")


def check_text_encoder(config: Mapping[str, Any], *, called: str) -> None:
    """Refuse a text encoder that cannot be built in bounded time.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
    """
    _check_keys(called, config, _TEXT_WHOLE, _TEXT_WORDS)
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        if not isinstance(config.get(key), int):
            _refuse(called, f"has no {key}")
    if config["hidden_size"] % config["num_attention_heads"]:
        _refuse(called, "has a hidden_size that its heads do not divide")


def check_scheduler(config: Mapping[str, Any]) -> None:
    """Refuse a noise schedule that is endless, unknown or contradicts itself.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
    """
    called = "scheduler/scheduler_config.json"
    _check_keys(called, config, _SCHEDULER_WHOLE, _SCHEDULER_WORDS)
    if sum(bool(config.get(key)) for key in _SIGMA_SWITCHES) > 1:
        _refuse(called, "asks for two spacings of sigmas at once")
    for key in ("beta_start", "beta_end"):
        beta = config.get(key, 0.01)
        if isinstance(beta, bool) or not isinstance(beta, int | float) or not 0 < beta < 1:
            _refuse(called, f"has an unusable {key}")
    betas = config.get("trained_betas")
    if betas is not None and (
        not isinstance(betas, list)
        or not betas
        or any(not isinstance(b, int | float) or not 0 < b < 1 for b in betas)
    ):
        _refuse(called, "has unusable trained_betas")


def _read_object(path: Path, called: str, limit: int) -> Config:
    if not path.is_file():
        raise FailedPrecondition(
            f"The model has no {called}; fetch it again.",
            reason=Reason.MODEL_INCOMPLETE,
            metadata={"missing": called},
        )
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
        if len(raw) > limit:
            _refuse(called, "is too large")
        parsed = json.loads(raw.decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        _refuse(called, "cannot be read")
    if not isinstance(parsed, dict):
        _refuse(called, "is not an object")
    return parsed


def _refuse(called: str, what: str) -> NoReturn:
    raise FailedPrecondition(
        f"The model's {called} {what}.",
        reason=Reason.MODEL_CONFIG_INVALID,
        metadata={"file": called},
    )


def _check_bounds(value: Any, called: str, key: str, depth: int) -> None:
    """Bound depth, length and size of everything, whatever its key means."""
    if depth > _MAX_DEPTH:
        _refuse(called, "is nested too deeply")
    if isinstance(value, dict):
        if len(value) > 4 * _MAX_LIST:
            _refuse(called, "has too many keys")
        for name, item in value.items():
            _check_bounds(item, called, name, depth + 1)
    elif isinstance(value, list):
        if len(value) > (_MAX_TRAIN_TIMESTEPS if key == "trained_betas" else _MAX_LIST):
            _refuse(called, "has a list that is too long")
        for item in value:
            _check_bounds(item, called, key, depth + 1)
    elif isinstance(value, str):
        if len(value) > _MAX_TEXT:
            _refuse(called, "has a text that is too long")
    elif isinstance(value, float):
        if not math.isfinite(value):
            _refuse(called, "has a number that is not finite")
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER:
        _refuse(called, "has a number that is too large")


def _check_keys(
    called: str,
    config: Mapping[str, Any],
    whole: Mapping[str, tuple[int, int]],
    words: Mapping[str, set[Any]],
) -> None:
    for key, (least, greatest) in whole.items():
        for number in _flat(config.get(key)):
            if type(number) is not int or not least <= number <= greatest:
                _refuse(called, f"has a {key} outside {least} to {greatest}")
    for key, known in words.items():
        values = config.get(key)
        if values is None:
            continue
        for word in _flat(values):
            if not isinstance(word, str) or word not in known:
                _refuse(called, f"has an unknown {key}")


def _check_blocks(called: str, config: Mapping[str, Any], required: tuple[str, ...]) -> None:
    """Block lists must be there and of one length, or the network cannot be assembled."""
    for key in required:
        if type(config.get(key)) is not int:
            _refuse(called, f"has no {key}")
    lengths = set()
    for key in ("block_out_channels", "down_block_types", "up_block_types"):
        blocks = config.get(key)
        if not isinstance(blocks, list) or not 1 <= len(blocks) <= _MAX_BLOCKS:
            _refuse(called, f"has no usable {key}")
        lengths.add(len(blocks))
    if len(lengths) != 1:
        _refuse(called, "lists blocks that do not match each other")


def _flat(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return [inner for item in value for inner in _flat(item)]
    return [value]
