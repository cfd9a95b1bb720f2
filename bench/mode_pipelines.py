"""Each mode of generation with diffusers' pipelines, in float32 and Euler's steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from torch.nn import functional

from bench.mode_inputs import (
    CLIP_SKIP,
    LORAS,
    SCALE,
    STRENGTH,
    SWITCH_AT,
    VARIATION,
    Inputs,
    Shape,
)
from bench.work import MODEL_PATH, work_of_round
from domains.inference.backends.latents import noise_of

_COMPANIONS = MODEL_PATH.parent


class Pipelines:
    """Over the same files as the engine; each is made when it is first drawn with.

    Every public method draws the picture of a round; what it returns holds it first.
    """

    def __init__(self, shape: Shape, inputs: Inputs) -> None:
        self._shape, self._inputs = shape, inputs
        self._size = {"width": shape.edge, "height": shape.edge}

    @cached_property
    def _draw(self) -> Any:
        return _base()

    @cached_property
    def _redraw(self) -> Any:
        return self._sharing(StableDiffusionXLImg2ImgPipeline)

    @cached_property
    def _inpaint(self) -> Any:
        return self._sharing(StableDiffusionXLInpaintPipeline)

    @cached_property
    def _control(self) -> Any:
        read: Any = ControlNetModel.from_pretrained
        network = read(
            _COMPANIONS / "emoji-canny", torch_dtype=torch.float32, local_files_only=True
        )
        return self._sharing(StableDiffusionXLControlNetPipeline, controlnet=network)

    @cached_property
    def _refine(self) -> Any:
        make: Any = StableDiffusionXLImg2ImgPipeline.from_pretrained
        pipeline = make(
            _COMPANIONS / "emoji-refiner",
            vae=self._draw.vae,
            text_encoder_2=self._draw.text_encoder_2,
            text_encoder=None,
            tokenizer=None,
            dtype=torch.float32,
            local_files_only=True,
        )
        pipeline.scheduler = _euler(self._draw)
        return _quiet(pipeline)

    @cached_property
    def _with_loras(self) -> Any:
        """Networks of its own: what is put into them stays, which is the least work there is
        for a picture."""
        pipeline = _base()
        for name in LORAS:
            pipeline.load_lora_weights(
                str(_COMPANIONS), weight_name=f"{name}.safetensors", adapter_name=name
            )
        pipeline.set_adapters(list(LORAS), list(LORAS.values()))
        return pipeline

    def text_to_image(self, number: int, **changes: Any) -> Any:
        """Pictures, or what else `output_type` says."""
        return self._draw(**self._common(number), **self._size, **changes).images

    def image_to_image(self, number: int, image: Any = None) -> Any:
        """From the start picture, or from another, or from latents."""
        begun = self._inputs.start if image is None else image
        return self._redraw(**self._common(number), image=begun, strength=STRENGTH).images

    def inpainting(self, number: int) -> Any:
        """What the mask marks of the start picture."""
        given = {"image": self._inputs.start, "mask_image": self._inputs.mask}
        how = self._common(number) | self._size | given
        return self._inpaint(**how, strength=STRENGTH).images

    def control_net(self, number: int) -> Any:
        """By the edges."""
        how = self._common(number) | self._size
        return self._control(**how, image=self._inputs.edges).images

    def two_loras(self, number: int) -> Any:
        """With both at work."""
        return self._with_loras(**self._common(number), **self._size).images

    def refiner(self, number: int) -> Any:
        """The last steps by another model, one generator for both."""
        common = self._common(number)
        begun = self._draw(
            **common, **self._size, denoising_end=SWITCH_AT, output_type="latent"
        ).images
        return self._refine(**common, image=begun, denoising_start=SWITCH_AT).images

    def clip_skip(self, number: int) -> Any:
        """Without the text encoders' last layers."""
        return self.text_to_image(number, clip_skip=CLIP_SKIP)

    def larger_latents(self, number: int) -> Any:
        """A second pass by hand."""
        latents = self.text_to_image(number, output_type="latent")
        larger = functional.interpolate(latents, scale_factor=SCALE, mode="bilinear")
        return self.image_to_image(number, larger)

    def larger_pixels(self, number: int) -> Any:
        """A second pass by hand, over the picture itself."""
        edge = int(self._shape.edge * SCALE)
        picture = self.text_to_image(number)[0]
        larger = picture.resize((edge, edge), Image.Resampling.LANCZOS)
        return self.image_to_image(number, larger)

    def varied(self, number: int) -> Any:
        """With noise that was made beforehand."""
        edge = self._shape.edge // self._draw.vae_scale_factor
        channels = self._draw.unet.config.in_channels
        noise = noise_of(work_of_round(number, self._shape.steps).seed, VARIATION)
        return self.text_to_image(number, latents=noise.draw((1, channels, edge, edge)))

    def seamless(self, number: int) -> Any:
        """Every convolution pads with what is at the opposite edge, as other programs do it."""
        with _circular(self._draw.unet), _circular(self._draw.vae):
            return self.text_to_image(number)

    def _sharing(self, kind: Any, **further: Any) -> Any:
        """A pipeline over the networks of the one for text to image."""
        return _quiet(kind(**self._draw.components, **further))

    def _common(self, number: int) -> dict[str, Any]:
        work = work_of_round(number, self._shape.steps)
        return {
            "prompt": work.prompt,
            "num_inference_steps": work.steps,
            "guidance_scale": work.guidance_scale,
            "generator": torch.Generator("cpu").manual_seed(work.seed),
        }


def _base() -> Any:
    make: Any = StableDiffusionXLPipeline.from_pretrained
    pipeline = make(MODEL_PATH, variant="fp16", dtype=torch.float32, local_files_only=True)
    pipeline.scheduler = _euler(pipeline)
    return _quiet(pipeline)


def _euler(pipeline: Any) -> Any:
    make: Any = EulerDiscreteScheduler.from_config
    return make(pipeline.scheduler.config)


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def _circular(network: torch.nn.Module) -> Iterator[None]:
    layers = [one for one in network.modules() if isinstance(one, torch.nn.Conv2d)]
    for layer in layers:
        layer.padding_mode = "circular"
    try:
        yield
    finally:
        for layer in layers:
            layer.padding_mode = "zeros"
