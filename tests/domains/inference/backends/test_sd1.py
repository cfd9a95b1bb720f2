"""SD 1.x: the engine's pictures are those of `StableDiffusionPipeline`, bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from demo.measure.sd1 import CONFIGURATION, sd1_pipeline
from domains.errors import FailedPrecondition, InvalidArgument, Reason
from domains.inference.types import (
    DdimOptions,
    GuidanceSettings,
    PromptSyntax,
    Scheduler,
    SchedulerSettings,
)
from domains.model.backends.diffusers_folder import inspect_folder
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.types import Architecture, ModelType
from tests.domains.inference.backends.conftest import own_share
from tests.domains.inference.backends.test_inversions import using
from tests.domains.inference.backends.test_oracle import SPACED, SWITCHES, same
from tests.domains.inference.backends.test_weighted_prompts import PIECES, embedding, run
from tests.domains.inference.backends.test_weighted_prompts import PROMPT as PROMPT_OF_PIECES
from tests.domains.model.disk import edit, files_at
from tests.libraries import DTYPE

PROMPT = "a robot on a teal background"
SIZE = 64


def tiny_pipeline() -> StableDiffusionPipeline:
    """Random weights of SD 1.x's parts; its text encoder is wide as the real one."""
    torch.manual_seed(3)
    width = 768
    tokenizer = CLIPTokenizer.from_pretrained(CONFIGURATION / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    blocks = (32, 64, 64, 64)
    return StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=blocks,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=16,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=64,
            block_out_channels=blocks,
            down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
            up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
            attention_head_dim=8,
            cross_attention_dim=width,
            layers_per_block=1,
            norm_num_groups=16,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-sd1"
    tiny_pipeline().save_pretrained(path)
    return path


def loaded(path: Path) -> Any:
    kind: Any = StableDiffusionPipeline
    pipeline = kind.from_pretrained(path, local_files_only=True, **{DTYPE: torch.float32})
    pipeline.set_progress_bar_config(disable=True)
    for network in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        for parameter in network.parameters():
            # Mapped from a file it lies where the file has it, and how a tensor is aligned can
            # decide the last bit of a product.
            parameter.data = parameter.data.clone()
    return pipeline


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    return loaded(folder)


@pytest.fixture
def expect(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Pixels and final latents of the reference pipeline."""
    own = pipeline.scheduler
    if not hasattr(pipeline.text_encoder, "text_model"):
        # Where the pipeline looks for the last norm, as older versions of transformers had it.
        monkeypatch.setattr(CLIPTextModel, "text_model", property(lambda it: it), raising=False)

    def call(
        scheduler: Scheduler = Scheduler.EULER_DISCRETE,
        options: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> Any:
        cls = getattr(diffusers, scheduler.value)
        pipeline.scheduler = cls.from_config(own.config, **(options or {}))
        return drawn_by(pipeline, **own_share(scheduler) | arguments)

    yield call
    pipeline.scheduler = own


def drawn_by(pipeline: Any, **arguments: Any) -> Any:
    last: list[torch.Tensor] = []

    def keep(_pipe: Any, _index: int, _timestep: Any, state: dict[str, Any]) -> Any:
        last[:] = [state["latents"].clone()]
        return state

    settings = {
        "prompt": PROMPT,
        "width": SIZE,
        "height": SIZE,
        "num_inference_steps": 3,
        "guidance_scale": 6.0,
        "generator": torch.Generator("cpu").manual_seed(7),
    }
    images = pipeline(**(settings | arguments), callback_on_step_end=keep).images
    return np.asarray(images[0]), last[0]


@pytest.fixture
def sd1(draw: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """Draw with the tiny model."""

    def call(path: Path = folder, **changes: Any) -> Any:
        usual = {"prompt": PROMPT, "width": SIZE, "height": SIZE, "steps": 3}
        return draw(model_id=path.name, model_path=path, **(usual | changes))

    return call


# Of those that draw fresh noise, that remember steps, and that ask twice a step: the samplers
# are told nothing of the family, and each is drawn with SDXL as usual (test_oracle.py).
KINDS = (
    Scheduler.EULER_ANCESTRAL_DISCRETE,
    Scheduler.DPM_SOLVER_MULTISTEP,
    Scheduler.HEUN_DISCRETE,
)


@pytest.mark.parametrize(
    "scheduler",
    [
        each if each in KINDS else pytest.param(each, marks=pytest.mark.matrix)
        for each in Scheduler
    ],
)
def test_every_scheduler(sd1, expect, scheduler):
    same(sd1(scheduler=SchedulerSettings(scheduler)), expect(scheduler))


@pytest.mark.parametrize(
    ("scheduler", "spacing"),
    [SPACED[0], *(pytest.param(*each, marks=pytest.mark.matrix) for each in SPACED[4::4])],
)
def test_spacings(sd1, expect, scheduler, spacing):
    settings = SchedulerSettings(scheduler, spacing)
    same(sd1(scheduler=settings), expect(scheduler, SWITCHES[spacing]))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param({"negative_prompt": "pizza"}, {"negative_prompt": "pizza"}, id="negative"),
        pytest.param({"prompt": ""}, {"prompt": ""}, id="empty prompt"),
        pytest.param({"prompt": "apple " * 90}, {"prompt": "apple " * 90}, id="long prompt"),
        pytest.param({"clip_skip": 1}, {"clip_skip": 1}, id="clip skip"),
        pytest.param(
            {"clip_skip": 2, "negative_prompt": "dog"},
            {"clip_skip": 2, "negative_prompt": "dog"},
            id="clip skip of the prompt alone",
        ),
        pytest.param(
            {"guidance": GuidanceSettings(6.0, 0.7)}, {"guidance_rescale": 0.7}, id="rescale"
        ),
        pytest.param(
            {"guidance": GuidanceSettings(1.0)}, {"guidance_scale": 1.0}, id="no guidance"
        ),
        pytest.param({"width": 72, "height": 136}, {"width": 72, "height": 136}, id="odd size"),
    ],
)
def test_every_setting(sd1, expect, ours, theirs):
    same(sd1(**ours), expect(**theirs))


def test_a_long_weighted_prompt(sd1, expect, pipeline):
    """With a clip skip, which is for the prompt alone."""
    encoder = pipeline.text_encoder

    def skipping(numbers):
        states = run(encoder, numbers).hidden_states[-2]
        with torch.no_grad():
            return encoder.text_model.final_layer_norm(states), None

    def usual(numbers):
        return run(encoder, numbers)[0], None

    settings = {
        "prompt_syntax": PromptSyntax.WEIGHTED,
        "clip_skip": 1,
        "negative_prompt": "[dog]",
    }
    drawn = sd1(prompt=PROMPT_OF_PIECES, **settings)
    embeds, _ = embedding(pipeline.tokenizer, skipping, PIECES, 4)
    negative, _ = embedding(pipeline.tokenizer, usual, [[("dog", 0.909091)]], 4)
    same(drawn, expect(prompt=None, prompt_embeds=embeds, negative_prompt_embeds=negative))


@pytest.mark.parametrize(("name", "shape"), [("emb_params", (3, 768)), ("<new>", (768,))])
def test_textual_inversions_in_both_layouts(sd1, folder, tmp_path, name, shape):
    """That of AUTOMATIC1111's web UI, and that of diffusers."""
    path = tmp_path / "new.safetensors"
    vectors = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    save_file({name: vectors}, path)
    reference = loaded(folder)
    reference.load_textual_inversion(vectors.reshape(-1, 768), token="<new>")
    prompt = "a robot <new> on a teal background"
    same(sd1(prompt=prompt, **using((path, "<new>"))), drawn_by(reference, prompt=prompt))


def test_eta_of_ddim(sd1, expect):
    settings = SchedulerSettings(Scheduler.DDIM, ddim=DdimOptions(0.5))
    same(sd1(scheduler=settings), expect(Scheduler.DDIM, eta=0.5))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("own", "scheduler"),
    [
        ({"_class_name": "DDIMScheduler"}, Scheduler.DDIM),
        (
            {"_class_name": "DDIMScheduler", "steps_offset": 0, "clip_sample": True},
            Scheduler.EULER_DISCRETE,
        ),
        (
            {"_class_name": "PNDMScheduler", "steps_offset": 0, "skip_prk_steps": True},
            Scheduler.DDIM,
        ),
        ({"_class_name": "DPMSolverSinglestepScheduler"}, Scheduler.DDIM),
        (
            {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"},
            Scheduler.EULER_DISCRETE,
        ),
    ],
)
def test_outdated_schedules_are_read_as_the_pipeline_reads_them(
    sd1, folder, tmp_path, own, scheduler
):
    """Early folders have an offset and clipping that SD 1.x was not trained with."""
    path = tmp_path / "old"
    shutil.copytree(folder, path)
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(own | betas))
    edit(path / "model_index.json", scheduler=["diffusers", own["_class_name"]])
    reference = loaded(path)
    if own["_class_name"] != scheduler.value:
        cls = getattr(diffusers, scheduler.value)
        reference.scheduler = cls.from_config(reference.scheduler.config)
    same(sd1(path, scheduler=SchedulerSettings(scheduler)), drawn_by(reference))


def test_the_catalogue_describes_it(folder):
    (model,) = DiskScanner([folder.parent]).scan().models
    assert model.usable, model.problem
    assert (model.type, model.architecture) == (ModelType.CHECKPOINT, Architecture.SD1)
    assert (model.native_width, model.native_height) == (512, 512)
    assert not model.reads_second_prompt


def test_a_skip_beyond_the_text_encoder_is_refused(sd1):
    with pytest.raises(InvalidArgument) as refused:
        sd1(clip_skip=4)
    assert refused.value.violations[0].field == "clip_skip"


@pytest.mark.parametrize(
    ("file", "changes", "why"),
    [
        ("unet/config.json", {"cross_attention_dim": 1024}, "SD 2.x"),
        ("unet/config.json", {"cross_attention_dim": 64}, "different widths"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "inputs that SD 1.x"),
        ("unet/config.json", {"in_channels": 5}, "disagree about the latents"),
        ("vae/config.json", {"latents_mean": [0.1] * 4, "latents_std": [1.0] * 4}, "shifts"),
        ("text_encoder/config.json", {"use_attention_mask": True}, "mask"),
    ],
)
def test_parts_that_make_no_model_together(folder, tmp_path, file, changes, why):
    path = tmp_path / "broken"
    shutil.copytree(folder, path)
    edit(path / file, **changes)
    with pytest.raises(FailedPrecondition) as refused:
        inspect_folder(files_at(path))
    assert refused.value.reason is Reason.MODEL_INCOMPATIBLE
    assert why in refused.value.message


def test_a_folder_that_lists_a_safety_checker_can_be_drawn_with(folder, tmp_path):
    """It lies there unread: pictures are checked by a service of their own."""
    path = tmp_path / "checked"
    shutil.copytree(folder, path)
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    edit(path / "model_index.json", safety_checker=checker)
    assert inspect_folder(files_at(path)).architecture is Architecture.SD1


@pytest.mark.demonstration
def test_the_demo_model_draws_the_background_that_is_asked_for(draw, tmp_path):
    path = tmp_path / "emoji-sd1"
    sd1_pipeline().save_pretrained(path)
    drawn = draw(
        model_id="emoji-sd1",
        model_path=path,
        prompt="a red apple on a blue background",
        width=256,
        height=256,
        steps=12,
    )
    pixels = drawn.pixels[0].astype(int)
    corners = np.concatenate([pixels[:16, :16], pixels[-16:, -16:]]).reshape(-1, 3)
    red, green, blue = corners.mean(axis=0)
    assert blue > max(red + 60, green + 40)
