"""Which noise a picture starts from, and how it is drawn again, larger."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from msgspec import Meta

from domains.codec import Count, Measure, Value
from domains.inference.types.sampling import GuidanceSettings
from domains.limits import default_of
from domains.session.types import Seed

Share = Annotated[float, Meta(ge=0, le=1)]


class SeedVariation(Value, frozen=True):
    """Noise between that of the picture's own seed (`strength` 0) and of another (1)."""

    seed: Seed = 0
    strength: Share = default_of("SeedVariation.strength")


class SecondPassUpscale(Enum):
    """How what a second pass starts from comes to be."""

    LATENT = "latent"
    PIXELS = "pixels"


class SecondPass(Value, frozen=True):
    """Draw again, `scale` times as large (1 to 4), of which `strength` (0 to 1) is noised away.

    `steps` and `guidance` are the first pass's where they are None; resolved settings have
    them.
    """

    scale: Measure = default_of("SecondPass.scale")
    upscale: SecondPassUpscale = SecondPassUpscale.LATENT
    strength: Share = default_of("SecondPass.strength")
    steps: Count | None = None
    guidance: GuidanceSettings | None = None

    def enlarged(self, edge: int) -> int:
        """What becomes of an edge, in pixels: the closest multiple of 8, the larger of two."""
        return int(edge * self.scale / 8 + 0.5) * 8
