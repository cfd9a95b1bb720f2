"""Which noise a picture starts from, and what it goes through after its first pass."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from msgspec import Meta

from domains.codec import Count, Measure, Value
from domains.inference.types.sampling import GuidanceSettings
from domains.limits import default_of
from domains.session.types import Seed

Share = Annotated[float, Meta(ge=0, le=1)]


def steps_by_strength(steps: int, strength: float) -> int:
    """Steps of a schedule that are done on a picture to start from, as diffusers'
    `get_timesteps` has it; 0 where `strength` (0 to 1) leaves none."""
    return min(int(steps * strength), steps)


class SeedVariation(Value, frozen=True):
    """Noise between that of the picture's own seed (`strength` 0) and of another (1)."""

    seed: Seed = 0
    strength: Share = default_of("SeedVariation.strength")


class SecondPassUpscale(Enum):
    """How what a second pass starts from comes to be."""

    LATENT = "latent"
    PIXELS = "pixels"
    MODEL = "model"


class SecondPass(Value, frozen=True):
    """Draw again, `scale` times as large (1 to 4), of which `strength` (0 to 1) is noised away.

    `steps` and `guidance` are the first pass's where they are None; resolved settings have
    them, and with MODEL the upscaler's id.
    """

    scale: Measure = default_of("SecondPass.scale")
    upscale: SecondPassUpscale = SecondPassUpscale.LATENT
    strength: Share = default_of("SecondPass.strength")
    steps: Count | None = None
    guidance: GuidanceSettings | None = None
    postprocessor_id: Annotated[str, Meta(max_length=256)] = ""

    @property
    def through_pixels(self) -> bool:
        """Whether the first picture is decoded and the larger one encoded."""
        return self.upscale is not SecondPassUpscale.LATENT

    def enlarged(self, edge: int) -> int:
        """What becomes of an edge, in pixels: the closest multiple of 8, the larger of two."""
        return int(edge * self.scale / 8 + 0.5) * 8


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
