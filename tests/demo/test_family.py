"""The committed artefacts do what they are for: few pictures, few steps.

`python -m demo.measure` tells how well; these tests tell that a file was not damaged, mixed up
or assembled wrongly. What each does at full strength lies far from what is asked for here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from safetensors.torch import load_file
from torch import Tensor

from demo.measure import comic, controlnet, embedding, lora, refiner, sd1
from demo.measure.metrics import background, block_uniformity, recognised, saturation
from demo.measure.pictures import MODELS, base_pipeline, draw, quiet, scenes
from demo.train.embedding import TOKEN
from demo.train.parts import styles
from demo.train.parts.base import BASE, load_base
from demo.train.parts.compositing import Compositor
from demo.train.parts.edges import canny
from demo.train.parts.emoji import EmojiSet, load_emoji
from demo.train.parts.latents import decode, encode
from demo.train.parts.losses import psnr
from demo.train.srvgg import compact_from
from demo.train.upscaler import enlarge_bicubic, shrink, split

# Two adapters in one model is what is meant here; peft warns of it.
pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")

EMOJI = 96  # reading all of them takes long
COUNT = 2
STEPS = 6


@pytest.fixture(scope="module")
def emoji() -> EmojiSet:
    return load_emoji(limit=EMOJI)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """The base model with both LoRAs, and nothing on."""
    made = base_pipeline()
    lora.load(made, lora.LINE_ART, "line")
    lora.load(made, lora.PIXEL_ART, "pixel")
    return made


@pytest.fixture(scope="module")
def prompts() -> tuple[str, ...]:
    return scenes(COUNT, EMOJI).prompts


@pytest.fixture(scope="module")
def plain(prompts) -> Tensor:
    return draw(base_pipeline(), prompts, steps=STEPS)


def at(pipeline: Any, prompts: tuple[str, ...], **weights: float) -> Tensor:
    pipeline.set_adapters(list(weights), list(weights.values()))
    return draw(pipeline, prompts, steps=STEPS)


def test_weight_0_changes_nothing(pipeline, prompts, plain):
    assert torch.equal(at(pipeline, prompts, line=0.0, pixel=0.0), plain)


def test_line_art_takes_the_colour_out(pipeline, prompts, plain):
    pictures = at(pipeline, prompts, line=1.0)
    assert saturation(pictures).mean() < saturation(plain).mean() / 2


def test_pixel_art_makes_blocks(pipeline, prompts, plain):
    pictures = at(pipeline, prompts, pixel=1.0)
    assert (block_uniformity(pictures) > block_uniformity(plain)).all()


def test_the_control_net_draws_along_the_edges(emoji):
    wanted = Compositor(emoji, device="cpu", seed=3, held_out=True).draw(COUNT)
    control = canny(wanted.pixels)
    kind: Any = ControlNetModel
    network = kind.from_pretrained(MODELS / "emoji-canny")
    pipeline = base_pipeline(StableDiffusionXLControlNetPipeline, controlnet=network)
    agreed = {}
    for scale in (0.0, 1.0):
        pictures = draw(
            pipeline,
            tuple(wanted.prompts),
            steps=STEPS,
            image=control.expand(-1, 3, -1, -1),
            controlnet_conditioning_scale=scale,
        )
        agreed[scale] = controlnet.agreement(canny(pictures * 2 - 1), control).mean()
    assert agreed[1.0] > 1.5 * agreed[0.0]


def test_the_refiner_ends_pictures_sharper_than_the_base(prompts):
    base = base_pipeline()
    again = quiet(StableDiffusionXLImg2ImgPipeline.from_pipe(base, add_watermarker=False))
    begun = refiner.noised(scenes(COUNT, EMOJI).truth, base)
    plain, refined = (
        refiner.laplacian_energy(refiner.finish(one, prompts, begun))
        for one in (again, refiner.refiner_pipeline(base))
    )
    assert (refined > 1.3 * plain).all()


def test_the_sd1_checkpoint_draws_what_it_is_asked_for(prompts):
    truth = scenes(COUNT, EMOJI).truth
    pictures = draw(sd1.sd1_pipeline(), prompts, steps=STEPS)
    assert recognised(pictures, truth) == 1
    assert (background(pictures) - background(truth)).abs().mean() < 0.05


def test_the_comic_checkpoint_draws_comics(prompts, plain):
    checkpoint = quiet(
        StableDiffusionXLPipeline.from_single_file(
            str(comic.COMIC), config=str(BASE), dtype=torch.float32, add_watermarker=False
        )
    )
    pictures = draw(checkpoint, prompts, steps=STEPS)
    truth = scenes(COUNT, EMOJI).truth
    target = (styles.comic(truth * 2 - 1) + 1) / 2
    distance = comic.style_distance(pictures, target, truth)
    assert distance < comic.style_distance(plain, target, truth)
    assert comic.ink_share(pictures).mean() > comic.ink_share(plain).mean()


def test_the_token_draws_small(prompts, plain):
    pipeline = base_pipeline()
    embedding.load(pipeline)
    for tokenizer, encoder in (
        (pipeline.tokenizer, pipeline.text_encoder),
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        assert TOKEN in tokenizer.get_vocab()
        assert encoder.get_input_embeddings().num_embeddings == len(tokenizer)
    pictures = draw(pipeline, tuple(f"{prompt} {TOKEN}" for prompt in prompts), steps=STEPS)
    assert (embedding.sizes(pictures) < embedding.sizes(plain) / 2).all()


def test_the_vae_decodes_better_from_the_same_latents(emoji):
    pixels = Compositor(emoji, device="cpu", seed=4, held_out=True).draw(COUNT).pixels
    base = load_base(device="cpu").vae
    ours = AutoencoderKL.from_single_file(
        str(MODELS / "emoji-vae.safetensors"),
        config=str(BASE),
        subfolder="vae",
        local_files_only=True,
    )
    latents = encode(base, pixels)
    assert torch.equal(encode(ours, pixels), latents)
    before, after = (psnr(decode(vae, latents), pixels).mean() for vae in (base, ours))
    assert after > before + 1


@pytest.mark.parametrize("scale", [2, 4])
def test_the_upscalers_beat_bicubic_on_emoji_they_never_saw(scale, emoji):
    _, unseen = split(emoji)
    truth = (Compositor(unseen, device="cpu", seed=5).draw(4).pixels + 1) / 2
    network = compact_from(load_file(MODELS / f"compact-{scale}x.safetensors")).float()
    low = shrink(truth, scale)
    with torch.no_grad():
        ours = network(low).clamp(0, 1)
    gain = psnr(ours * 2 - 1, truth * 2 - 1) - psnr(
        enlarge_bicubic(low, scale) * 2 - 1, truth * 2 - 1
    )
    assert gain.mean() > 2.5


def test_a_pickle_of_an_upscaler_is_the_same_network(tmp_path: Path):
    tensors = load_file(MODELS / "compact-2x.safetensors")
    torch.save({"params": tensors}, tmp_path / "compact-2x.ckpt")
    copy = torch.load(tmp_path / "compact-2x.ckpt", weights_only=True)["params"]
    pixels = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        first, second = (compact_from(some).float()(pixels) for some in (tensors, copy))
    assert torch.equal(first, second)
