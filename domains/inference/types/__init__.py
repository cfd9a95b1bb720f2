"""Values of image generation: what is asked for, what happens, what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, TypeVar

from msgspec import Meta
from msgspec.structs import replace

from domains.chain.types import AskedChain
from domains.codec import FEW, Count, Value
from domains.device.types import Placement
from domains.inference.types.control import ControlNetGuidance, asked_together, most_in_a_union
from domains.inference.types.image_prompts import ImagePrompt, ImagePromptInput
from domains.inference.types.inpainting import Inpainting, InpaintingFill, OutpaintingMargins
from domains.inference.types.passes import (
    Refiner,
    RefinerMode,
    SecondPass,
    SecondPassUpscale,
    SeedVariation,
    Share,
    steps_by_strength,
)
from domains.inference.types.sampling import (
    OPTIONS,
    AncestralOptions,
    ChurnOptions,
    DdimOptions,
    GuidanceSettings,
    LinearMultistepOptions,
    Scheduler,
    SchedulerFacts,
    SchedulerSettings,
    SigmaSpacing,
    SolverAlgorithm,
    SolverOptions,
    TimestepSpacing,
)
from domains.limits import default_of
from domains.model.types import ModelType
from domains.picture.types import InputImage, PictureFile, ResizeFit
from domains.session.types import Delivery, Seed, WorkOptions
from domains.values import ModelOrigin, ModelPart, OutputSettings, PartDataType, Toggle

# What comes from beside this module; what is defined here is public as well.
__all__ = [
    "OPTIONS",
    "AncestralOptions",
    "ChurnOptions",
    "ControlNetGuidance",
    "DdimOptions",
    "GuidanceSettings",
    "ImagePrompt",
    "ImagePromptInput",
    "Inpainting",
    "InpaintingFill",
    "LinearMultistepOptions",
    "OutpaintingMargins",
    "Refiner",
    "RefinerMode",
    "Scheduler",
    "SchedulerFacts",
    "SchedulerSettings",
    "SecondPass",
    "SecondPassUpscale",
    "SeedVariation",
    "SigmaSpacing",
    "SolverAlgorithm",
    "SolverOptions",
    "TimestepSpacing",
    "asked_together",
    "most_in_a_union",
    "steps_by_strength",
]

T = TypeVar("T")
Strength = Annotated[float, Meta(ge=-2, le=2)]
Prompt = Annotated[str, Meta(max_length=10_000)]


class PromptSyntax(Enum):
    """How prompts are read; `domains/weighted_prompts.py` has the second."""

    PLAIN = "plain"  # every character is text
    WEIGHTED = "weighted"


class PrecisionMode(Enum):
    """Whether bits or speed come first."""

    OPEN = "open"  # EXACT, unless the device runs with the profile FAST
    EXACT = "exact"  # on CPU: float32, bit-identical to the reference pipeline
    FASTEST = "fastest"  # the data type and layout this device measured as fastest


class ConditioningSize(Value, frozen=True):
    """A size in pixels that a model is told."""

    width: Count = 0
    height: Count = 0


class ConditioningPoint(Value, frozen=True):
    """A point in pixels that a model is told."""

    left: Count = 0
    top: Count = 0


class SizeConditioning(Value, frozen=True):
    """What an SDXL model is told about the picture (arXiv:2307.01952, section 2.2). A size that
    is None is the drawn one, a point that is None the corner."""

    original_size: ConditioningSize | None = None
    target_size: ConditioningSize | None = None
    crop_top_left: ConditioningPoint | None = None


class SdxlSettings(Value, frozen=True):
    """What only SDXL models have: prompts for their second text encoder, sizes, a refiner.

    A prompt that is None is the first encoder's; without a `size` the model is told the drawn
    one, without a `negative_size` the same for the negative prompt.
    """

    prompt_2: Prompt | None = None
    negative_prompt_2: Prompt | None = None
    size: SizeConditioning | None = None
    negative_size: SizeConditioning | None = None
    refiner: Refiner | None = None


class LoraWeight(Value, frozen=True):
    """A LoRA and how strongly it works, -2 to 2, 0 not at all. Without a `text_encoder_weight`
    its parts in text encoders work as the others; resolved settings have one."""

    model_id: Annotated[str, Meta(max_length=256)] = ""
    weight: Strength = default_of("LoraWeight.weight")
    text_encoder_weight: Strength | None = None


class ImageToImage(Value, frozen=True):
    """Start from a picture, of which `strength` (0 to 1) is noised away.

    `image` is which one; None until it was prepared.
    """

    strength: Share = default_of("ImageToImage.strength")
    fit: ResizeFit = ResizeFit.STRETCH
    image: PictureFile | None = None


class GenerationSettings(Value, frozen=True):
    """What is to be drawn, nested like the contract's message of that name.

    One shape from the request to the engine: what is None is left open by the client, and
    filled in when the settings are resolved. Without a `vae_model_id` the checkpoint's own VAE
    is used. Sizes are in pixels. `clip_skip` counts
    text-encoder layers skipped from the end. `seed` is the first picture's, `seeds` one for
    each; resolved settings have `seeds`.
    """

    prompt: Prompt = ""
    negative_prompt: Prompt = ""
    prompt_syntax: PromptSyntax = PromptSyntax.PLAIN
    model_id: Annotated[str, Meta(max_length=256)] = ""
    vae_model_id: Annotated[str, Meta(max_length=256)] = ""
    width: Count | None = None
    height: Count | None = None
    steps: Count = int(default_of("GenerationSettings.steps"))
    guidance: GuidanceSettings = GuidanceSettings()
    clip_skip: Count = int(default_of("GenerationSettings.clip_skip"))
    image_count: Count | None = None
    seed: Seed | None = None
    seeds: Annotated[tuple[Seed, ...], FEW] = ()
    scheduler: SchedulerSettings = SchedulerSettings()
    sdxl: SdxlSettings | None = None
    loras: Annotated[tuple[LoraWeight, ...], FEW] = ()
    embedding_model_ids: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], FEW] = ()
    image_to_image: ImageToImage | None = None
    inpainting: Inpainting | None = None
    second_pass: SecondPass | None = None
    seamless_horizontally: bool = False
    seamless_vertically: bool = False
    variation: SeedVariation | None = None
    control_nets: Annotated[tuple[ControlNetGuidance, ...], FEW] = ()
    image_prompts: Annotated[tuple[ImagePrompt, ...], FEW] = ()
    precision: PrecisionMode = PrecisionMode.OPEN
    vae_tiling: Toggle = Toggle.SERVER
    output: OutputSettings = OutputSettings()

    @property
    def prompts(self) -> dict[str, str]:
        """The texts that encoders read, by their field, without those that are not set."""
        second = self.sdxl or SdxlSettings()
        texts = {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "sdxl.prompt_2": second.prompt_2,
            "sdxl.negative_prompt_2": second.negative_prompt_2,
        }
        return {field: text for field, text in texts.items() if text}

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures that resolved settings give."""
        size = resolved(self.width), resolved(self.height)
        return size if self.inpainting is None else self.inpainting.margins.around(*size)

    @property
    def start(self) -> ImageToImage | Inpainting | None:
        """What a picture is drawn from that begins with another."""
        return self.image_to_image or self.inpainting

    @property
    def refiner(self) -> Refiner | None:
        """The second model for the last steps."""
        return None if self.sdxl is None else self.sdxl.refiner

    @property
    def passes(self) -> tuple[GenerationSettings, ...]:
        """What each picture of resolved settings goes through, a generation each: the second is
        image-to-image of what the first has drawn, or inpainting where that was it. A refiner
        follows the last."""
        again = self.second_pass
        if again is None:
            return (self,)
        last = replace(self, second_pass=None)
        first = last
        if self.refiner is not None:
            first = replace(last, sdxl=self.sdxl and replace(self.sdxl, refiner=None))
        width, height = (again.enlarged(edge) for edge in self.size)
        masked = self.inpainting
        second = replace(
            last,
            width=width,
            height=height,
            steps=resolved(again.steps),
            guidance=resolved(again.guidance),
            image_to_image=None if masked else ImageToImage(again.strength),
            inpainting=None if masked is None else masked.again(again.strength),
        )
        return first, second

    @property
    def result_size(self) -> tuple[int, int]:
        """Width and height in which the pictures of resolved settings come out."""
        return self.passes[-1].size

    @property
    def steps_taken(self) -> int:
        """Steps of the schedule that each picture goes through; 0 where the strength leaves
        none. A refiner is not counted."""
        if self.start is None:
            return self.steps
        return steps_by_strength(self.steps, self.start.strength)

    @property
    def skipped_steps(self) -> int:
        """Steps of the schedule that are left out at its beginning."""
        return self.steps - self.steps_taken


def resolved(value: T | None) -> T:
    """What resolved settings have where a client's may be open.

    Raises:
        LookupError: It is still open.
    """
    if value is None:
        raise LookupError("the settings are not resolved")
    return value


@dataclass(frozen=True)
class UsedModel:
    """A model that pictures were drawn with; `sha256` is empty where it is not known yet."""

    model_id: str
    type: ModelType
    sha256: str


class AttentionKernel(Enum):
    """What computes attention; torch chooses one for each call."""

    MATH = "math"
    FLASH = "flash"
    MEMORY_EFFICIENT = "memory-efficient"
    CUDNN = "cudnn"
    OTHER = "other"


class Computation(Value, frozen=True):
    """By which of several ways a generation was really computed.

    `channels_last`, `compiled` and `recorded` are parts whose tensors were laid out, which ran,
    or whose calls were replayed, so.
    `attention_kernels` are the denoiser's, none where compiled code chose. `vae_tiled` holds
    if it did for one picture. `most_together` are the pictures that shared one pass through the
    denoiser, at most; 0 or 1: each had its own. `decoded_beside` are those that were decoded
    beside the steps of others.
    """

    channels_last: Annotated[tuple[ModelPart, ...], FEW] = ()
    compiled: Annotated[tuple[ModelPart, ...], FEW] = ()
    recorded: Annotated[tuple[ModelPart, ...], FEW] = ()
    attention_kernels: Annotated[tuple[AttentionKernel, ...], FEW] = ()
    attention_sliced: bool = False
    vae_tiled: bool = False
    most_together: Count = 0
    decoded_beside: Count = 0

    def __or__(self, other: Computation) -> Computation:
        """Every way of both, of two turns of one generation."""
        return Computation(
            _each_once(self.channels_last, other.channels_last),
            _each_once(self.compiled, other.compiled),
            _each_once(self.recorded, other.recorded),
            _each_once(self.attention_kernels, other.attention_kernels),
            self.attention_sliced or other.attention_sliced,
            self.vae_tiled or other.vae_tiled,
            max(self.most_together, other.most_together),
            self.decoded_beside + other.decoded_beside,
        )


def _each_once(some: tuple[T, ...], others: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*some, *others)))


@dataclass(frozen=True)
class GenerationFacts:
    """What drew the pictures: settings with nothing left open, and what they ran on. `models`
    begin with the checkpoint."""

    settings: GenerationSettings
    models: tuple[UsedModel, ...]
    data_types: tuple[PartDataType, ...]
    computed: Computation
    origin: ModelOrigin
    software_versions: Mapping[str, str]


@dataclass(frozen=True)
class ControlInput:
    """The pictures of a ControlNet as a client names them."""

    image: InputImage | None = None
    images: tuple[InputImage, ...] = ()
    mask: InputImage | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """One call of Generate. `digest` stands for the whole request, for idempotency.

    `image` is the picture that it starts from, `mask` what of it is redrawn, `controls` are
    those of the ControlNets, in their order, and `image_prompts` those that are read as
    prompts; `chain` finishes what is drawn. `unbuilt` names the fields that are set although
    this version does nothing with them.
    """

    settings: GenerationSettings
    options: WorkOptions
    placement: Placement
    digest: bytes
    delivery: Delivery = field(default_factory=Delivery)
    image: InputImage | None = None
    mask: InputImage | None = None
    controls: tuple[ControlInput, ...] = ()
    image_prompts: tuple[ImagePromptInput, ...] = ()
    chain: AskedChain = field(default_factory=AskedChain)
    unbuilt: tuple[str, ...] = ()
