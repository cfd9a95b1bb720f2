"""The refiner: its conditions are those of diffusers' pipeline, and a smoke run fits it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline
from safetensors.torch import load_file

from demo.train import refiner
from demo.train.parts import command
from demo.train.parts.base import BASE, BaseModel, load_base
from demo.train.parts.capture import SdxlDenoiser
from demo.train.parts.compositing import Compositor
from demo.train.parts.diffusion import NoiseSchedule
from demo.train.parts.emoji import load_emoji
from demo.train.parts.inherit import inherit
from demo.train.parts.latent_pool import Sample
from demo.train.parts.latents import encode
from demo.train.parts.loop import Plan
from demo.train.parts.predictions import base_predict
from demo.train.parts.text import tokens

MOST_BYTES = 16_300_000


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refiner")
    refiner.main(["--smoke", "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base(device="cpu")


@pytest.fixture(scope="module")
def pipeline(out: Path, base: BaseModel) -> StableDiffusionXLImg2ImgPipeline:
    unet = refiner.build_unet(192)
    weights = load_file(out / "emoji-refiner.safetensors")
    unet.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return StableDiffusionXLImg2ImgPipeline(
        vae=base.vae,
        text_encoder=None,
        text_encoder_2=base.text_encoder_2,
        tokenizer=None,
        tokenizer_2=base.tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler.from_pretrained(BASE, subfolder="scheduler"),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    )


def test_the_pipeline_refines_latents_of_the_base(
    pipeline: StableDiffusionXLImg2ImgPipeline,
) -> None:
    pipeline.set_progress_bar_config(disable=True)

    refined = pipeline(
        "a robot",
        image=torch.randn(1, 4, 32, 32),
        num_inference_steps=10,
        denoising_start=0.8,
        output_type="latent",
    ).images

    assert refined.shape == (1, 4, 32, 32)
    assert refined.isfinite().all()


def test_conditions_are_those_of_the_pipeline(
    pipeline: StableDiffusionXLImg2ImgPipeline, base: BaseModel
) -> None:
    states, _, pooled, _ = pipeline.encode_prompt(
        "a red apple", do_classifier_free_guidance=False
    )
    good, poor = pipeline._get_add_time_ids(
        (256, 256), (0, 0), (256, 256), 6.0, 2.5, (256, 256), (0, 0), (256, 256),
        torch.float32, 192,
    )  # fmt: skip
    ids = base.tokenizer(
        ["a red apple"], padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids

    ours = refiner.SecondText(base).encode(ids)

    torch.testing.assert_close(ours[0], states)
    torch.testing.assert_close(ours[1], pooled)
    scores = refiner.score_ids(torch.tensor([6.0, 2.5]))
    torch.testing.assert_close(scores, torch.cat([good, poor]))


def test_a_blurred_picture_scores_low_and_a_clear_one_high() -> None:
    pixels = Compositor(load_emoji(limit=24), device="cpu").draw(32).pixels

    altered, score = refiner.blur_some(pixels, torch.Generator().manual_seed(0))

    detail = (altered[..., 1:] - altered[..., :-1]).abs().mean(dim=(1, 2, 3))
    before = (pixels[..., 1:] - pixels[..., :-1]).abs().mean(dim=(1, 2, 3))
    blurred = score < 5
    assert 2 <= int(blurred.sum()) <= 16
    assert (detail[blurred] < before[blurred]).all()
    assert torch.equal(altered[~blurred], pixels[~blurred])
    assert score[~blurred].min() >= 5.5
    assert score[~blurred].max() <= 6.5
    assert score[blurred].min() >= 2


def test_the_comparison_gives_the_base_model_its_own_conditions(base: BaseModel) -> None:
    """The base predicts a picture's noise far better than nothing does, which costs 1."""
    drawn = Compositor(load_emoji(limit=24), device="cpu").draw(2)
    ids = tokens(base.tokenizer, drawn.prompts)
    unseen = Sample(encode(base.vae, drawn.pixels), ids, torch.full((2,), 6.0))
    schedule = NoiseSchedule("cpu")
    torch.manual_seed(0)
    fresh = refiner.refiner_predict(
        SdxlDenoiser(refiner.build_unet(192)), refiner.SecondText(base), ids, unseen.score
    )

    assert refiner.compared(base_predict(base, ids), unseen, schedule) < 0.3
    assert refiner.compared(fresh, unseen, schedule) > 0.8


def test_a_narrow_network_casts_what_it_is_given() -> None:
    torch.manual_seed(0)
    unet = refiner.build_unet(192)
    given = (
        torch.randn(2, 4, 16, 16),
        torch.tensor([3, 200]),
        torch.randn(2, 77, 192),
        torch.randn(2, 192),
        refiner.score_ids(torch.tensor([6.0, 2.5])),
    )
    exact = SdxlDenoiser(unet)(*given)

    rounded = SdxlDenoiser(unet.bfloat16())(*given)

    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.05, rtol=0.1)


def test_a_smoke_run_states_both_errors_and_stays_within_its_bytes(out: Path) -> None:
    facts = json.loads((out / "emoji-refiner.json").read_text())

    assert facts["steps"] == 2
    assert 0 < facts["base_held_out_epsilon_error"] < facts["held_out_epsilon_error"]
    assert (out / "emoji-refiner.safetensors").stat().st_size < MOST_BYTES


def test_a_run_goes_on_from_an_earlier_one(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At a rate this low a step shows in nothing but where it began.
    monkeypatch.setattr(
        command, "Plan", lambda **given: Plan(**{**given, "learning_rate": 1e-12, "ema": None})
    )
    refiner.main(["--smoke", "--out", str(tmp_path), "--start", str(out), "--seed", "9"])

    before, after = (load_file(folder / refiner.FILE) for folder in (out, tmp_path))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-3, rtol=0)


def test_it_starts_as_the_base_where_the_base_has_the_same(base: BaseModel) -> None:
    unet = refiner.build_unet(192)
    theirs = base.unet

    filled = inherit(unet, refiner.from_base(theirs.state_dict()))

    assert filled > 0.6 * sum(parameter.numel() for parameter in unet.parameters())
    ours_k, their_k = (
        some.down_blocks[1].attentions[0].transformer_blocks[0].attn2.to_k.weight
        for some in (unet, theirs)
    )
    assert torch.equal(ours_k, their_k[:, -192:])  # the second encoder's part
    merging = unet.up_blocks[1].resnets[0].conv1.weight
    assert torch.count_nonzero(merging[:, : -refiner.SKIP]) == 0
    assert torch.equal(
        merging[:, -refiner.SKIP :],
        theirs.up_blocks[1].resnets[0].conv1.weight[:, -refiner.SKIP :],
    )
    added = unet.add_embedding.linear_1.weight
    assert torch.count_nonzero(added[:, -refiner.TIME_WIDTH :]) == 0  # the score
