"""Makes a model of Tiny, as a folder and as a file, and draws with both and with diffusers.

Run in a tree of the product to which the family was added; the argument is an empty folder.
It prints what it found, as JSON.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from domains.inference.backends.engine import Engine
from domains.inference.jobs import GenerationJob
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
)
from domains.model.backends import families
from domains.model.backends.checkpoint_kinds.registry import KINDS
from domains.model.backends.disk_scanner import DiskScanner
from domains.session.jobs import EncodedImage
from domains.values import ModelPlace

PROMPT, NEGATIVE = "a robot on a teal background", "pizza"
SIZE, STEPS, SEED, SCALE = 64, 3, 7, 5.0
TOKENIZER = Path(families.__file__).parents[1] / "bundled" / "clip-tokenizer"


@dataclass
class Heard:
    """What a job said."""

    events: list[Any] = field(default_factory=list)

    def emit(self, event: Any) -> None:
        """One more."""
        self.events.append(event)

    def check_stop(self) -> None:
        """Nobody stops it."""

    def check_pause(self) -> None:
        """Nor pauses it."""


def made() -> Any:
    """Random weights, in a pipeline of diffusers."""
    torch.manual_seed(9)
    loads: Any = CLIPTokenizer
    tokenizer = loads.from_pretrained(TOKENIZER, local_files_only=True)
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=32,
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=8,
        cross_attention_dim=96,
        layers_per_block=1,
        norm_num_groups=32,
    )
    kind: Any = StableDiffusionPipeline
    return kind(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="trailing",
            prediction_type="v_prediction",
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def written(pipeline: Any, root: Path) -> None:
    """As a folder whose index names the family's own pipeline, and as one file."""
    folder = root / "tiny-folder"
    pipeline.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index["_class_name"] = "TinyDiffusionPipeline"
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    (kind,) = (one for one in KINDS if one.title == "Tiny")
    tensors = {}
    for name, part in kind.parts.items():
        weights = getattr(pipeline, name).state_dict()
        # In files the encoder's names begin so, whichever version of transformers made it.
        own = {key.removeprefix("text_model."): value for key, value in weights.items()}
        own = {key: value for key, value in own.items() if not key.endswith("position_ids")}
        for stored, (key, *_) in part.names(own).items():
            tensors[part.prefix + stored] = own[key].clone()
    save_file(tensors, root / "tiny-file.safetensors")


def reference(pipeline: Any) -> np.ndarray[Any, Any]:
    """The family's own way: the layer before the last goes to the UNet as it is."""

    def encoded(text: str) -> torch.Tensor:
        tokens = pipeline.tokenizer(
            text, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        with torch.no_grad():
            found = pipeline.text_encoder(tokens.input_ids, output_hidden_states=True)
        states: torch.Tensor = found.hidden_states[-2]
        return states

    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        prompt_embeds=encoded(PROMPT),
        negative_prompt_embeds=encoded(NEGATIVE),
        width=SIZE,
        height=SIZE,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        generator=torch.Generator("cpu").manual_seed(SEED),
    ).images
    return np.asarray(images[0])


def drawn(place: Path) -> np.ndarray[Any, Any]:
    """What the engine draws with a folder or a file."""
    settings = GenerationSettings(
        model_id="tiny",
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        width=SIZE,
        height=SIZE,
        steps=STEPS,
        guidance=GuidanceSettings(SCALE),
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
        seeds=(SEED,),
        precision=PrecisionMode.EXACT,
    )
    heard: Any = Heard()
    Engine("cpu").generate(GenerationJob(settings, ModelPlace.of(place)), heard)
    (image,) = (event for event in heard.events if isinstance(event, EncodedImage))
    return np.asarray(Image.open(io.BytesIO(image.data)))


def main(root: Path) -> None:
    """Make, list and draw."""
    pipeline = made()
    written(pipeline, root)
    models = {model.model_id: model for model in DiskScanner([root]).scan().models}
    wanted = reference(pipeline)
    found = {
        model_id: {
            "usable": model.usable,
            "problem": model.problem and model.problem.message,
            "architecture": model.architecture and model.architecture.value,
            "prediction": model.prediction_type and model.prediction_type.value,
            "same": model.usable and bool(np.array_equal(drawn(model.path), wanted)),
        }
        for model_id, model in models.items()
    }
    print(json.dumps({"models": found, "spread": float(wanted.std())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
