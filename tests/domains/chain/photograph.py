"""A photograph with one face.

Eileen Collins, 1999, by NASA, in the public domain; a part of the picture that scikit-image
brings as `astronaut`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from domains.chain.backends.canvas import Pixels

PATH = Path(__file__).with_name("astronaut.webp")
BOX = (94, 70, 199, 175)
"""About where the face is: left, top, right, bottom."""
EYES = ((125, 102), (167, 105))
"""About where the eyes are, that on the picture's left first."""


def astronaut() -> Pixels:
    """uint8 `[288, 288, 3]`."""
    return np.array(Image.open(PATH))
