"""The classes of networks and the schedulers that families share, each with its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from domains.model.backends.bounds import ConfigBounds, Number, Whole, is_number, words

MAX_TRAIN_TIMESTEPS = 10_000
"""A noise schedule may be spelled out, one number per training timestep."""
_MAX_BLOCKS = 8
_ACTIVATIONS = words("silu", "swish", "mish", "gelu", "relu")
_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


@dataclass(frozen=True)
class NetworkClass:
    """A class of networks, built from a configuration within its bounds.

    Attributes:
        library: `diffusers`, whose classes get every key that they know, or
            `transformers`, whose classes get the keys that `bounds` lists and no other: a
            configuration may otherwise ask for code from the network.
        name: As the library calls it.
        bounds: Of its configuration.
        defaults: The constructor's own, of keys that are read here as well.
    """

    library: str
    name: str
    bounds: ConfigBounds
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights_name(self) -> str:
        """What files of its weights are called, without variant and ending."""
        return "diffusion_pytorch_model" if self.library == "diffusers" else "model"


def _blocks_match(config: Mapping[str, Any]) -> str:
    """Block lists must be of one length, or the network cannot be assembled."""
    lengths = set()
    for key in ("block_out_channels", "down_block_types", "up_block_types"):
        blocks = config.get(key)
        if not isinstance(blocks, list) or not 1 <= len(blocks) <= _MAX_BLOCKS:
            return f"has no usable {key}"
        lengths.add(len(blocks))
    return "" if len(lengths) == 1 else "lists blocks that do not match each other"


def _statistics_match(config: Mapping[str, Any]) -> str:
    for key in ("latents_mean", "latents_std"):
        values = config.get(key)
        if values is not None and (
            not isinstance(values, list)
            or len(values) != config["latent_channels"]
            or not all(map(is_number, values))
        ):
            return f"has an unusable {key}"
    return ""


def _heads_divide(config: Mapping[str, Any]) -> str:
    if config["hidden_size"] % config["num_attention_heads"]:
        return "has a hidden_size that its heads do not divide"
    return ""


def _one_spacing(config: Mapping[str, Any]) -> str:
    asked = sum(bool(config.get(key)) for key in _SPACINGS)
    return "asks for two spacings of sigmas at once" if asked > 1 else ""


UNET = NetworkClass(
    "diffusers",
    "UNet2DConditionModel",
    ConfigBounds(
        {
            "act_fn": _ACTIVATIONS,
            "addition_time_embed_dim": Whole(1, 4096),
            "attention_head_dim": Whole(1, 1024, listed=True),
            "attention_type": words("default"),
            "block_out_channels": Whole(8, 8192, listed=True),
            "conv_in_kernel": Whole(1, 7),
            "conv_out_kernel": Whole(1, 7),
            "cross_attention_dim": Whole(1, 16384, listed=True),
            "down_block_types": words("DownBlock2D", "CrossAttnDownBlock2D"),
            "in_channels": Whole(1, 64),
            "layers_per_block": Whole(1, 8, listed=True),
            "mid_block_type": words("UNetMidBlock2DCrossAttn", "UNetMidBlock2D"),
            "norm_num_groups": Whole(1, 256),
            "num_attention_heads": Whole(1, 256, listed=True),
            "out_channels": Whole(1, 64),
            "projection_class_embeddings_input_dim": Whole(1, 65536),
            "reverse_transformer_layers_per_block": Whole(0, 32, listed=True),
            "sample_size": Whole(1, 2048, listed=True),
            "time_embedding_dim": Whole(1, 16384),
            "transformer_layers_per_block": Whole(0, 32, listed=True),
            "up_block_types": words("UpBlock2D", "CrossAttnUpBlock2D"),
        },
        required=("in_channels", "out_channels"),
        rules=(_blocks_match,),
    ),
)

VAE = NetworkClass(
    "diffusers",
    "AutoencoderKL",
    ConfigBounds(
        {
            "act_fn": _ACTIVATIONS,
            "block_out_channels": Whole(8, 4096, listed=True),
            "down_block_types": words("DownEncoderBlock2D"),
            "in_channels": Whole(1, 16),
            "latent_channels": Whole(1, 64),
            "layers_per_block": Whole(1, 8),
            "norm_num_groups": Whole(1, 256),
            "out_channels": Whole(1, 16),
            "sample_size": Whole(1, 8192, listed=True),
            "scaling_factor": Number(0, 1e3),
            "up_block_types": words("UpDecoderBlock2D"),
        },
        required=("latent_channels", "scaling_factor"),
        rules=(_blocks_match, _statistics_match),
    ),
    defaults={"scaling_factor": 0.18215, "force_upcast": True},
)

_CLIP_TEXT = ConfigBounds(
    {
        "bos_token_id": Whole(-1, 1 << 20),
        "eos_token_id": Whole(-1, 1 << 20),
        "hidden_act": words("quick_gelu", "gelu", "gelu_new", "relu", "silu"),
        "hidden_size": Whole(8, 16384),
        "intermediate_size": Whole(8, 65536),
        "layer_norm_eps": Number(0, 1),
        "max_position_embeddings": Whole(2, 4096),
        "num_attention_heads": Whole(1, 256),
        "num_hidden_layers": Whole(1, 96),
        "pad_token_id": Whole(-1, 1 << 20),
        "projection_dim": Whole(1, 16384),
        "vocab_size": Whole(4, 1 << 20),
    },
    required=("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
    rules=(_heads_divide,),
)
_CLIP_DEFAULTS = {"max_position_embeddings": 77, "projection_dim": 512}
CLIP_TEXT = NetworkClass("transformers", "CLIPTextModel", _CLIP_TEXT, _CLIP_DEFAULTS)
CLIP_TEXT_PROJECTION = NetworkClass(
    "transformers",
    "CLIPTextModelWithProjection",
    replace(_CLIP_TEXT, required=(*_CLIP_TEXT.required, "projection_dim")),
    _CLIP_DEFAULTS,
)

SCHEDULER = ConfigBounds(
    {
        "algorithm_type": words(
            "deis", "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"
        ),
        "beta_end": Number(0, 1),
        "beta_schedule": words("linear", "scaled_linear", "squaredcos_cap_v2"),
        "beta_start": Number(0, 1),
        "final_sigmas_type": words("zero", "sigma_min"),
        "num_train_timesteps": Whole(1, MAX_TRAIN_TIMESTEPS),
        "prediction_type": words("epsilon", "v_prediction", "sample"),
        "solver_order": Whole(1, 3),
        "steps_offset": Whole(0, MAX_TRAIN_TIMESTEPS),
        "timestep_spacing": words("linspace", "leading", "trailing"),
        "trained_betas": Number(0, 1, listed=True),
    },
    rules=(_one_spacing,),
)
