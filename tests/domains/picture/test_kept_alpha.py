"""Pictures whose transparency is kept, in their own size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from domains.picture.backends.prepared import read_pixels
from domains.picture.backends.preparing import prepare
from domains.picture.jobs import PictureJob, PictureReport
from domains.picture.types import OWN_SIZE, PreparedPicture, ResizeFit
from server.worker.child.run import UnheardContext


def prepared(image: Image.Image, folder: Path) -> tuple[PictureReport, np.ndarray]:  # type: ignore[type-arg]
    """What an inspector makes of a PNG."""
    source, target = folder / "source", folder / "target"
    data = io.BytesIO()
    image.save(data, "PNG")
    source.write_bytes(data.getvalue())
    target.write_bytes(b"")
    job = PictureJob(source, target, OWN_SIZE, ResizeFit.STRETCH, keep_alpha=True)
    report = prepare(job, UnheardContext())
    picture = PreparedPicture(target, report.width, report.height, "0" * 64, alpha=report.alpha)
    return report, read_pixels(picture)


def test_colours_and_alpha_come_as_they_are(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)

    report, pixels = prepared(Image.fromarray(levels), tmp_path)

    assert (report.width, report.height, report.alpha) == (7, 5, True)
    assert np.array_equal(pixels, levels)


def test_an_alpha_that_hides_nothing_is_none(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    levels[..., 3] = 255

    report, pixels = prepared(Image.fromarray(levels), tmp_path)

    assert not report.alpha
    assert np.array_equal(pixels, levels[..., :3])


def test_a_transparent_colour_of_a_palette_is_an_alpha(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.info["transparency"] = 0

    report, pixels = prepared(image, tmp_path)

    assert report.alpha
    assert pixels.tolist() == [[[10, 20, 30, 0], [40, 50, 60, 255]]]
