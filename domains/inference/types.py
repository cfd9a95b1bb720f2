"""Values of image generation: what is asked for, what happens, what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from domains.session.types import (
    ImageDecoded,
    PhaseStarted,
    Preview,
    SessionOptions,
    StepFinished,
    TextEncoded,
    TransferProgress,
)
from domains.values import DataType, Degradation, ImageFormat


class SigmaSpacing(Enum):
    """How noise levels are spread over the steps."""

    MODEL = "model"  # as the model's own scheduler configuration says
    KARRAS = "karras"
    EXPONENTIAL = "exponential"
    BETA = "beta"


@dataclass(frozen=True)
class SchedulerFacts:
    """What is known about a scheduler; tests hold it against the library's classes.

    `sampler_name` is what other programs call it. A `stochastic` one adds fresh noise at
    every step, one that `takes_eta` as much as it is asked to. `calls_per_step` counts UNet
    calls in a step as the user counts them.
    """

    sampler_name: str
    spacings: frozenset[SigmaSpacing] = frozenset(SigmaSpacing)
    stochastic: bool = False
    takes_eta: bool = False
    calls_per_step: int = 1


_ONLY_MODELS = frozenset({SigmaSpacing.MODEL})


class Scheduler(Enum):
    """The samplers, a row each; the value is the class name in diffusers."""

    facts: SchedulerFacts

    DPM_SOLVER_MULTISTEP = "DPMSolverMultistepScheduler", SchedulerFacts("DPM++ 2M")
    DPM_SOLVER_SINGLESTEP = "DPMSolverSinglestepScheduler", SchedulerFacts("DPM++ 2S")
    DDIM = "DDIMScheduler", SchedulerFacts("DDIM", _ONLY_MODELS, takes_eta=True)
    EULER_DISCRETE = "EulerDiscreteScheduler", SchedulerFacts("Euler")
    EULER_ANCESTRAL_DISCRETE = (
        "EulerAncestralDiscreteScheduler",
        SchedulerFacts("Euler a", _ONLY_MODELS, stochastic=True),
    )
    KDPM2_DISCRETE = "KDPM2DiscreteScheduler", SchedulerFacts("DPM2", calls_per_step=2)
    KDPM2_ANCESTRAL_DISCRETE = (
        "KDPM2AncestralDiscreteScheduler",
        SchedulerFacts("DPM2 a", stochastic=True, calls_per_step=2),
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


class PrecisionMode(Enum):
    """Whether bits or speed come first."""

    OPEN = "open"  # EXACT, unless the device runs with the profile FAST
    EXACT = "exact"  # on CPU: float32, bit-identical to the reference pipeline
    FASTEST = "fastest"  # the data type and layout this device measured as fastest


@dataclass(frozen=True)
class SchedulerSettings:
    """`eta` (0 to 1) is DDIM's share of fresh noise; other schedulers ignore it."""

    scheduler: Scheduler
    spacing: SigmaSpacing = SigmaSpacing.MODEL
    eta: float = 0.0


@dataclass(frozen=True)
class PreviewSettings:
    """`every_steps` 0 means none; `max_edge` is the longer side in pixels."""

    every_steps: int = 0
    max_edge: int = 256


@dataclass(frozen=True)
class OutputSettings:
    """How finished pictures are encoded; `quality` is for JPEG and lossy WebP."""

    format: ImageFormat = ImageFormat.PNG
    quality: int = 95
    lossless: bool = False
    embed_parameters: bool = True


@dataclass(frozen=True)
class GenerationSettings:
    """What a client asks for; None is what it left to defaults.

    `seed` is the first picture's, `seeds` one for each. `unbuilt` names the fields that
    are set although this version does nothing with them.
    """

    prompt: str = ""
    negative_prompt: str = ""
    prompt_2: str | None = None
    negative_prompt_2: str | None = None
    model_id: str = ""
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    guidance_rescale: float | None = None
    clip_skip: int | None = None
    scheduler: Scheduler | None = None
    spacing: SigmaSpacing = SigmaSpacing.MODEL
    eta: float | None = None
    image_count: int | None = None
    seed: int | None = None
    seeds: tuple[int, ...] = ()
    precision: PrecisionMode = PrecisionMode.OPEN
    format: ImageFormat = ImageFormat.PNG
    quality: int | None = None
    lossless: bool = False
    omit_parameters: bool = False
    preview_every_steps: int = 0
    preview_max_edge: int | None = None
    unbuilt: tuple[str, ...] = ()


@dataclass(frozen=True)
class GenerationRequest:
    """One call of Generate. `digest` stands for the whole request, for idempotency."""

    settings: GenerationSettings
    options: SessionOptions
    device_id: str
    digest: bytes
    image_data: bool = True


@dataclass(frozen=True)
class GenerationWork:
    """One generation, resolved: nothing is left to defaults, so a re-run is the same.

    Sizes are in pixels. One picture per entry of `seeds`, each drawn as if alone.
    `prompt_2` and `negative_prompt_2` are for SDXL's second text encoder; None means
    the same as the first. `clip_skip` counts text-encoder layers skipped from the end.
    """

    model_id: str
    model_path: Path
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    scheduler: SchedulerSettings
    seeds: tuple[int, ...]
    prompt_2: str | None = None
    negative_prompt_2: str | None = None
    guidance_rescale: float = 0.0
    clip_skip: int = 0
    precision: PrecisionMode = PrecisionMode.EXACT
    preview: PreviewSettings = field(default_factory=PreviewSettings)
    output: OutputSettings = field(default_factory=OutputSettings)


@dataclass(frozen=True)
class ImageEncoded:
    """One finished picture: the bytes of a complete file."""

    image_index: int
    seed: int
    width: int
    height: int
    format: ImageFormat
    data: bytes


# What a session's log records as it is.
ProgressEvent = (
    PhaseStarted | TransferProgress | TextEncoded | StepFinished | Preview | ImageDecoded
)
GenerationEvent = ProgressEvent | ImageEncoded


@dataclass(frozen=True)
class SpooledImage:
    """One finished picture as the front receives it: a complete file and its SHA-256."""

    image_index: int
    seed: int
    width: int
    height: int
    format: ImageFormat
    path: Path
    sha256: str
    size_bytes: int


# What the front receives from a device's worker.
RunEvent = ProgressEvent | SpooledImage


@dataclass(frozen=True)
class Timings:
    """Seconds spent per phase, summed over pictures."""

    load: float = 0.0
    encode_text: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    encode_image: float = 0.0


@dataclass(frozen=True)
class GenerationReport:
    """What was used and how long it took, once every picture is out."""

    timings: Timings
    unet_data_type: DataType
    vae_data_type: DataType
    channels_last: bool
    degradations: tuple[Degradation, ...] = ()
