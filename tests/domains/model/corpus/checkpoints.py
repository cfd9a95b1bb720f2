"""Whole checkpoints as their makers publish them, and denoisers alone.

Prefixes from the repositories' inference configurations and diffusers' `single_file_utils.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from domains.model.types import Architecture, ModelType, PredictionType
from tests.domains.model.corpus.parts import Shapes, part
from tests.domains.model.corpus.sample import Sample

SDXL, SD1, SD2 = Architecture.SDXL, Architecture.SD1, Architecture.SD2
EPSILON, V = PredictionType.EPSILON, PredictionType.V_PREDICTION
CHECKPOINT, REFINER = ModelType.CHECKPOINT, ModelType.REFINER
UNET = "model.diffusion_model."
# The noise schedule, which LDM keeps among the weights.
_SCHEDULE_NAMES = (
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod"),
    *("sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod"),
    *("posterior_variance", "posterior_log_variance_clipped"),
)
SCHEDULE: Shapes = dict.fromkeys(_SCHEDULE_NAMES, (1000,))


def unet(name: str, channels: int = 4) -> Shapes:
    """A UNet in its original names, with an input of so many channels."""
    shapes = part(f"{name}-original", UNET)
    first = f"{UNET}input_blocks.0.0.weight"
    return shapes | {first: (shapes[first][0], channels, 3, 3)}


def vae() -> Shapes:
    """The VAE of SD 1.x, 2.x and SDXL as it lies in checkpoints."""
    return part("vae-original", "first_stage_model.")


def sd1_text() -> Shapes:
    """SD 1.x's text encoder, with the position ids that old files have."""
    start = "cond_stage_model.transformer.text_model."
    encoder = part("clip-l", "cond_stage_model.transformer.")
    return encoder | {f"{start}embeddings.position_ids": (1, 77)}


def sd2_text() -> Shapes:
    """SD 2.x's text encoder: OpenCLIP-H."""
    return part("openclip-h-original", "cond_stage_model.model.")


def sdxl_text() -> Shapes:
    """SDXL's two text encoders."""
    first = part("clip-l", "conditioner.embedders.0.transformer.")
    return first | part("openclip-g-original", "conditioner.embedders.1.model.")


def sdxl(name: str = "unet-sdxl", channels: int = 4) -> Shapes:
    """An SDXL checkpoint."""
    return unet(name, channels) | vae() | sdxl_text()


def sd1(channels: int = 4) -> Shapes:
    """An SD 1.x checkpoint."""
    return unet("unet-sd1", channels) | vae() | sd1_text() | SCHEDULE


def sd2(name: str = "unet-sd2", channels: int = 4) -> Shapes:
    """An SD 2.x checkpoint."""
    return unet(name, channels) | vae() | sd2_text() | SCHEDULE


def _sample(shapes: Shapes, architecture: Architecture, kind: str = "", **told: Any) -> Sample:
    return Sample(shapes, CHECKPOINT, architecture, kind, told)


def samples() -> Iterator[tuple[str, Sample]]:
    """Every checkpoint by a name for tests."""
    yield "sdxl", _sample(sdxl(), SDXL, prediction=EPSILON, native_size=1024)
    yield (
        "sdxl-turbo",
        Sample(
            sdxl(),
            CHECKPOINT,
            SDXL,
            "Turbo",
            {"distilled_steps": 1},
            metadata={"modelspec.title": "Stable Diffusion XL Turbo, 1 step"},
        ),
    )
    yield (
        "sdxl-lightning",
        Sample(
            sdxl(),
            CHECKPOINT,
            SDXL,
            "Lightning",
            {"distilled_steps": 4},
            metadata={
                "modelspec.title": "Some style, Lightning",
                "modelspec.usage_hint": "4-step sampling",
            },
        ),
    )
    yield (
        "sdxl-refiner",
        Sample(
            unet("unet-refiner")
            | vae()
            | part("openclip-g-original", "conditioner.embedders.0.model."),
            REFINER,
            SDXL,
            "SDXL refiner",
            {"prediction": EPSILON},
        ),
    )
    yield (
        "sdxl-inpainting",
        _sample(sdxl(channels=9), SDXL, "inpainting", inpainting=True),
    )
    yield (
        "sdxl-instruct",
        _sample(sdxl(channels=8), SDXL, "instruct-pix2pix", inpainting=False),
    )
    for name, kind in (
        ("unet-ssd-1b", "SSD-1B"),
        ("unet-vega", "Segmind-Vega"),
        ("unet-koala-700m", "KOALA-700M"),
        ("unet-koala-1b", "KOALA-1B"),
    ):
        yield f"sdxl-{name}", _sample(sdxl(name), SDXL, kind, prediction=EPSILON)
    yield (
        "sdxl-v",  # NoobAI-XL's v-prediction files
        _sample(
            sdxl() | {"v_pred": (0,), "ztsnr": (0,)},
            SDXL,
            prediction=V,
            zero_terminal_snr=True,
        ),
    )
    yield (
        "playground-2.5",
        _sample(
            sdxl() | {"edm_mean": (1, 4, 1, 1), "edm_std": (1, 4, 1, 1)},
            SDXL,
            "Playground 2.5",
            formulation="EDM",
        ),
    )
    yield (
        "cosxl",
        _sample(
            sdxl() | {"edm_vpred.sigma_max": (), "edm_vpred.sigma_min": ()},
            SDXL,
            "CosXL",
            formulation="EDM v-prediction",
        ),
    )
    yield (
        "sdxl-without-vae",
        _sample(unet("unet-sdxl") | sdxl_text(), SDXL, lacks=("VAE",)),
    )
    yield "sdxl-unet-original", _sample(unet("unet-sdxl"), SDXL, lacks=("VAE", "text encoder"))
    yield (
        "sdxl-unet-bare",
        _sample(part("unet-sdxl-original"), SDXL, lacks=("VAE", "text encoder")),
    )
    yield "sdxl-unet", _sample(part("unet-sdxl"), SDXL, lacks=("VAE", "text encoder"))
    yield (
        "sdxl-lcm",  # latent-consistency/lcm-sdxl
        _sample(
            part("unet-sdxl") | {"time_embedding.cond_proj.weight": (320, 256)},
            SDXL,
            "LCM",
            distilled_steps=4,
        ),
    )
    yield "sd1", _sample(sd1(), SD1, prediction=EPSILON, native_size=512)
    yield (
        "sd1-ema",  # v1-5-pruned, with averaged weights beside the plain ones
        _sample(
            sd1()
            | {
                "model_ema." + name.removeprefix("model.").replace(".", ""): shape
                for name, shape in unet("unet-sd1").items()
            }
            | {"model_ema.decay": (), "model_ema.num_updates": ()},
            SD1,
        ),
    )
    yield "sd1-inpainting", _sample(sd1(9), SD1, "inpainting", inpainting=True)
    yield "sd1-instruct", _sample(sd1(8), SD1, "instruct-pix2pix", inpainting=False)
    whole = part("unet-sd1", "unet.") | part("vae", "vae.") | part("clip-l", "text_encoder.")
    yield "sd1-diffusers-names", _sample(whole, SD1, lacks=())
    yield "sd1-unet", _sample(part("unet-sd1"), SD1)
    yield "sd2", _sample(sd2(), SD2, prediction=None, native_size=0)
    yield "sd2-inpainting", _sample(sd2(channels=9), SD2, "inpainting", prediction=EPSILON)
    yield (
        "sd2-depth",  # with the DPT that makes the depth map
        _sample(
            sd2(channels=5)
            | {"depth_model.model.pretrained.model.blocks.0.attn.qkv.weight": (3072, 1024)},
            SD2,
            "depth to image",
            prediction=EPSILON,
        ),
    )
    yield "sd2-x4", _sample(sd2("unet-x4", 7), SD2, "x4 upscaler", prediction=V)
    yield (
        "sd2-unclip",  # stabilityai/stable-diffusion-2-1-unclip
        _sample(
            sd2()
            | {
                f"{UNET}label_emb.0.0.weight": (1280, 2048),
                f"{UNET}label_emb.0.2.weight": (1280, 1280),
                "noise_augmentor.data_mean": (1024,),
            },
            SD2,
            "unCLIP",
            prediction=V,
        ),
    )
    yield "sd2-unet", _sample(part("unet-sd2"), SD2)
