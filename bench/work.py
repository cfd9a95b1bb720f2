"""The generations that are measured: the bundled model, small pictures, fixed seeds."""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

MODEL_PATH = Path(__file__).resolve().parents[1] / "demo" / "models" / "emoji-xl"
MODEL_ID = "emoji-xl"
_SUBJECTS = (
    *("a red apple", "a dog face", "a robot", "a pizza", "a rocket", "a blue car"),
    *("a smiling sun", "a green tree"),
)
_COLOURS = ("blue", "teal", "yellow", "white", "pink", "green", "orange")


@dataclass(frozen=True)
class Work:
    """One picture; every arm of a round draws the same. Lengths in pixels."""

    prompt: str
    seed: int
    steps: int = 20
    width: int = 256
    height: int = 256
    guidance_scale: float = 6.0

    def settings(self) -> dict[str, object]:
        """What all rounds have in common, for the record."""
        common = asdict(self)
        del common["prompt"], common["seed"]
        return {"model": MODEL_ID, "scheduler": "EulerDiscrete", **common}


def work_of_round(number: int, steps: int) -> Work:
    """The work of round `number`: another text each time, or a cache would answer for it."""
    subject = _SUBJECTS[number % len(_SUBJECTS)]
    colour = _COLOURS[number % len(_COLOURS)]
    return Work(f"{subject} on a {colour} background", seed=1000 + number, steps=steps)


def pixel_hash(file: bytes) -> str:
    """SHA-256 of a picture's pixels, whatever its encoding and the texts inside."""
    with Image.open(io.BytesIO(file)) as image:
        return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
