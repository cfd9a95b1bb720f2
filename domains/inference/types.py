"""Values of image generation: what is asked for, what happens, what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, TypeVar

from msgspec import Meta

from domains.codec import FEW, Count, Measure, Value
from domains.device.types import Placement
from domains.limits import default_of
from domains.model.types import ModelType
from domains.picture.types import InputImage, PictureFile, ResizeFit
from domains.session.types import Delivery, Seed, WorkOptions
from domains.values import ModelOrigin, OutputSettings, PartDataType

T = TypeVar("T")
Strength = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Prompt = Annotated[str, Meta(max_length=10_000)]


class SigmaSpacing(Enum):
    """How noise levels are spread over the steps."""

    MODEL = "model"  # as the model's own scheduler configuration says
    EVEN = "even"  # those of the timesteps, whatever that configuration says
    KARRAS = "karras"
    EXPONENTIAL = "exponential"
    BETA = "beta"


@dataclass(frozen=True)
class SchedulerFacts:
    """What is known about a scheduler; tests hold it against the library's classes.

    `sampler_name` is what other programs call it. A `stochastic` one adds fresh noise at
    every step, one that `takes_eta` as much as it is asked to. `calls_per_step` counts UNet
    calls in a step as the user counts them. One that `reads_samples` works with models that
    predict the picture itself.
    """

    sampler_name: str
    spacings: frozenset[SigmaSpacing] = frozenset(SigmaSpacing)
    stochastic: bool = False
    takes_eta: bool = False
    calls_per_step: int = 1
    reads_samples: bool = True


_PLAIN = frozenset({SigmaSpacing.MODEL, SigmaSpacing.EVEN})


class Scheduler(Enum):
    """The samplers, a row each; the value is the class name in diffusers."""

    facts: SchedulerFacts

    DPM_SOLVER_MULTISTEP = "DPMSolverMultistepScheduler", SchedulerFacts("DPM++ 2M")
    DPM_SOLVER_SINGLESTEP = "DPMSolverSinglestepScheduler", SchedulerFacts("DPM++ 2S")
    DDIM = "DDIMScheduler", SchedulerFacts("DDIM", _PLAIN, takes_eta=True)
    EULER_DISCRETE = "EulerDiscreteScheduler", SchedulerFacts("Euler")
    EULER_ANCESTRAL_DISCRETE = (
        "EulerAncestralDiscreteScheduler",
        SchedulerFacts("Euler a", _PLAIN, stochastic=True, reads_samples=False),
    )
    KDPM2_DISCRETE = (
        "KDPM2DiscreteScheduler",
        SchedulerFacts("DPM2", calls_per_step=2, reads_samples=False),
    )
    KDPM2_ANCESTRAL_DISCRETE = (
        "KDPM2AncestralDiscreteScheduler",
        SchedulerFacts("DPM2 a", stochastic=True, calls_per_step=2, reads_samples=False),
    )
    HEUN_DISCRETE = "HeunDiscreteScheduler", SchedulerFacts("Heun", calls_per_step=2)
    LMS_DISCRETE = "LMSDiscreteScheduler", SchedulerFacts("LMS")
    UNIPC_MULTISTEP = "UniPCMultistepScheduler", SchedulerFacts("UniPC")
    DEIS_MULTISTEP = "DEISMultistepScheduler", SchedulerFacts("DEIS")

    def __new__(cls, class_name: str, facts: SchedulerFacts) -> Scheduler:
        """A member whose value is the class name alone."""
        member = object.__new__(cls)
        member._value_ = class_name
        member.facts = facts
        return member


class Toggle(Enum):
    """Three answers, where the server's own judgement is the usual one."""

    SERVER = "server"
    ON = "on"
    OFF = "off"


class PrecisionMode(Enum):
    """Whether bits or speed come first."""

    OPEN = "open"  # EXACT, unless the device runs with the profile FAST
    EXACT = "exact"  # on CPU: float32, bit-identical to the reference pipeline
    FASTEST = "fastest"  # the data type and layout this device measured as fastest


class DdimOptions(Value, frozen=True):
    """`eta` (0 to 1) is the share of fresh noise."""

    eta: Measure = default_of("DdimOptions.eta")


class SchedulerSettings(Value, frozen=True):
    """Without a `scheduler` it is the model's own. `ddim` is for DDIM alone."""

    scheduler: Scheduler | None = None
    spacing: SigmaSpacing = SigmaSpacing.MODEL
    ddim: DdimOptions | None = None


class GuidanceSettings(Value, frozen=True):
    """How strongly prompts pull. A `scale` of at most 1 draws without a negative prompt."""

    scale: Measure = default_of("GuidanceSettings.scale")
    rescale: Measure = default_of("GuidanceSettings.rescale")

    @property
    def guided(self) -> bool:
        """Whether every step also looks at the negative prompt."""
        return self.scale > 1


class RefinerMode(Enum):
    """How a refiner takes over."""

    HANDOVER = "handover"  # it does the last steps of the same schedule
    IMAGE_TO_IMAGE = "image-to-image"  # it starts from the finished picture


class Refiner(Value, frozen=True):
    """A second model for the last, finest steps.

    `switch_at` (0 to 1) is the share of the schedule that the first one does; with
    IMAGE_TO_IMAGE 1 minus the strength. `steps` are those of the whole schedule for its part.
    The scores say how good the picture is to look, to refiners that are told. Resolved settings
    have steps and guidance.
    """

    model_id: Annotated[str, Meta(max_length=256)] = ""
    mode: RefinerMode = RefinerMode.HANDOVER
    switch_at: Share = default_of("Refiner.switch_at")
    steps: Count | None = None
    guidance: GuidanceSettings | None = None
    aesthetic_score: Measure = default_of("Refiner.aesthetic_score")
    negative_aesthetic_score: Measure = default_of("Refiner.negative_aesthetic_score")

    @property
    def strength(self) -> float:
        """How much of the finished picture it noises away; 0.2, not a hair less, for 0.8."""
        return round(1 - self.switch_at, 6)


class SdxlSettings(Value, frozen=True):
    """What only SDXL models have: prompts for their second text encoder, and a refiner.

    A prompt of None means the same as the first encoder's.
    """

    prompt_2: Prompt | None = None
    negative_prompt_2: Prompt | None = None
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
    image_to_image: ImageToImage | None = None
    precision: PrecisionMode = PrecisionMode.OPEN
    vae_tiling: Toggle = Toggle.SERVER
    output: OutputSettings = OutputSettings()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of resolved settings."""
        return resolved(self.width), resolved(self.height)

    @property
    def refiner(self) -> Refiner | None:
        """The second model for the last steps."""
        return None if self.sdxl is None else self.sdxl.refiner

    @property
    def steps_taken(self) -> int:
        """Steps of the schedule that each picture goes through, as diffusers'
        `get_timesteps` has it; 0 where the strength leaves none. A refiner is not counted."""
        if self.image_to_image is None:
            return self.steps
        return min(int(self.steps * self.image_to_image.strength), self.steps)

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


@dataclass(frozen=True)
class GenerationFacts:
    """What drew the pictures: settings with nothing left open, and what they ran on. `models`
    begin with the checkpoint."""

    settings: GenerationSettings
    models: tuple[UsedModel, ...]
    data_types: tuple[PartDataType, ...]
    channels_last: bool
    origin: ModelOrigin
    software_versions: Mapping[str, str]


@dataclass(frozen=True)
class GenerationRequest:
    """One call of Generate. `digest` stands for the whole request, for idempotency.

    `image` is the picture of image-to-image. `unbuilt` names the fields that are set although
    this version does nothing with them.
    """

    settings: GenerationSettings
    options: WorkOptions
    placement: Placement
    digest: bytes
    delivery: Delivery = field(default_factory=Delivery)
    image: InputImage | None = None
    unbuilt: tuple[str, ...] = ()
