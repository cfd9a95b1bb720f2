"""What marks of pictures cost and survive, as Markdown.

    python -m bench.provenance [--photographs FOLDER] [--out FILE.md]

Marks pictures that the bundled model draws, rough noise as photographs have it, and the
photographs of a folder if one is named; does to them what pictures go through, and looks for
the mark. False finds are counted with keys that nothing was marked with. Times are medians of
one process on one thread, beside drawing one picture with the bundled model.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.machine import describe_machine
from bench.measure import median
from bench.model_files import DEMO
from domains.inference.backends.engine import Engine
from domains.inference.jobs import GenerationJob
from domains.inference.types import GenerationSettings, Scheduler, SchedulerSettings
from domains.picture.backends.encoding import encode_png
from domains.provenance.backends.mark import Pixels, add_mark, confidence, marked
from domains.provenance.backends.secrets import SecretsFolder
from domains.provenance.backends.signing import Signer
from domains.provenance.types import FOUND, Made
from domains.session.jobs import EncodedImage
from domains.values import ImageFileFormat, ModelPlace

_KEY = bytes(range(16))
_SIZES = (128, 512, 1024)
_STEPS = 20
_ROUGH = 12
_WRONG_KEYS = 20
_PROMPTS = (
    "a red apple on a blue background",
    "a robot on a teal background",
    "a dog and a pizza",
    "a yellow sun on a white background",
)


class _Heard:
    """A job's context that keeps the pictures."""

    def __init__(self) -> None:
        self.pictures: list[bytes] = []

    def emit(self, event: object) -> None:
        """Keep a picture."""
        if isinstance(event, EncodedImage):
            self.pictures.append(event.data)

    def check_stop(self) -> None:
        """Nobody stops it."""


def _drawn() -> tuple[list[Image.Image], float]:
    """Pictures of the bundled model, and the median seconds of drawing one."""
    engine, place, seconds, pictures = Engine("cpu"), ModelPlace.of(DEMO), [], []
    for seed, prompt in enumerate((_PROMPTS[0], *_PROMPTS)):
        settings = GenerationSettings(
            model_id="emoji-xl",
            prompt=prompt,
            width=256,
            height=256,
            steps=_STEPS,
            seeds=(seed,),
            scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
        )
        heard: Any = _Heard()
        begun = time.perf_counter()
        engine.generate(GenerationJob(settings, place), heard)
        seconds.append(time.perf_counter() - begun)
        pictures.append(Image.open(io.BytesIO(heard.pictures[0])).convert("RGB"))
    return pictures[1:], median(seconds[1:])  # the first also loads the model


def _rough(size: int) -> Iterator[Pixels]:
    """Noise whose amplitudes fall with the frequency as those of photographs do."""
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    radius[0, 0] = 1
    for seed in range(_ROUGH):
        noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal((3, size, size)))
        plane = np.fft.irfft2(noise / radius**1.2, (size, size))
        levels = (plane / plane.std() * 50 + 128).clip(0, 255).astype(np.uint8)
        yield np.moveaxis(levels, 0, -1)


def _sized(pictures: Sequence[Image.Image], size: int) -> Iterator[Pixels]:
    for each in pictures:
        edge = min(each.size)
        square = each.crop((0, 0, edge, edge))
        yield np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


def _saved(pixels: Pixels, format: str, quality: int) -> Pixels:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format, quality=quality)
    return np.asarray(Image.open(data).convert("RGB"))


def _cropped(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    top, left = height // 23, width // 17
    return pixels[top : top + height * 9 // 10, left : left + width * 9 // 10]


def _smaller(pixels: Pixels) -> Pixels:
    size = len(pixels) * 9 // 10
    return np.asarray(Image.fromarray(pixels).resize((size, size)))


_WAYS: Mapping[str, Callable[[Pixels], Pixels]] = {
    "as it is": lambda pixels: pixels,
    "JPEG 85": lambda pixels: _saved(pixels, "JPEG", 85),
    "JPEG 60": lambda pixels: _saved(pixels, "JPEG", 60),
    "WebP 80": lambda pixels: _saved(pixels, "WEBP", 80),
    "AVIF 80": lambda pixels: _saved(pixels, "AVIF", 80),
    "AVIF 60": lambda pixels: _saved(pixels, "AVIF", 60),
    "a tenth cropped": _cropped,
    "cropped, JPEG 85": lambda pixels: _saved(_cropped(pixels), "JPEG", 85),
    "brighter": lambda pixels: (pixels * 0.8 + 40).astype(np.uint8),
    "10 % smaller": _smaller,
    "mirrored": lambda pixels: pixels[:, ::-1],
}


def _decibels(one: Pixels, other: Pixels) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def _survival(kind: str, size: int, pictures: Sequence[Pixels]) -> tuple[str, int, int, float]:
    """A row; false finds, trials, and the surest of them."""
    found: Counter[str] = Counter()
    decibels, false, surest = [], 0, 0.0
    for pixels in pictures:
        done = add_mark(pixels, _KEY)
        decibels.append(_decibels(pixels, done))
        for name, way in _WAYS.items():
            found[name] += confidence(way(done), _KEY) >= FOUND
        for number in range(_WRONG_KEYS):
            sure = confidence(pixels, number.to_bytes(16, "big"))
            false, surest = false + (sure >= FOUND), max(surest, sure)
    rates = " | ".join(f"{found[name]} / {len(pictures)}" for name in _WAYS)
    row = f"| {kind} | {size} | {min(decibels):.1f} | {median(decibels):.1f} | {rates} |"
    return row, false, len(pictures) * _WRONG_KEYS, surest


def _seconds(act: Callable[[], object]) -> float:
    times = []
    for _ in range(9):
        begun = time.perf_counter()
        act()
        times.append(time.perf_counter() - begun)
    return median(times[1:])


def _costs(pictures: Sequence[Image.Image], drawing: float, folder: Path) -> Iterator[str]:
    signer = Signer(SecretsFolder(folder), None, None, None, "0")
    signer.open()
    for size in (256, 1024):
        (pixels,) = _sized(pictures[:1], size)
        data = encode_png(pixels)
        ways = {
            "signing": lambda data=data: signer.sign(data, ImageFileFormat.PNG, Made("s", "m")),
            "marking, and finding it": lambda pixels=pixels: marked(pixels, _KEY.hex(), ""),
            "finding": lambda pixels=pixels: confidence(pixels, _KEY),
        }
        for name, act in ways.items():
            took = _seconds(act)
            yield f"| {name} | {size} | {took * 1e3:.1f} | {took / drawing:.4f} |"
        more = len(signer.sign(data, ImageFileFormat.PNG, Made("s", "m"))) - len(data)
        yield f"| bytes of a manifest: {more} | {size} | | |"


def measured(photographs: Path | None) -> str:
    """All of it, as Markdown."""
    machine = describe_machine()
    drawn, drawing = _drawn()
    photos = [
        Image.open(each).convert("RGB")
        for each in sorted(photographs.iterdir() if photographs else ())
    ]
    rows, false, trials, surest = [], 0, 0, 0.0
    for size in _SIZES:
        kinds = {
            "drawn here": list(_sized(drawn, size)),
            "rough noise": list(_rough(size)),
            "photographs": list(_sized(photos, size)),
        }
        for kind, pictures in kinds.items():
            if pictures:
                row, *counted = _survival(kind, size, pictures)
                rows.append(row)
                false, trials = false + counted[0], trials + counted[1]
                surest = max(surest, counted[2])
    with tempfile.TemporaryDirectory() as folder:
        costs = list(_costs(drawn, drawing, Path(folder)))
    heads = ["Pictures", "Pixels along an edge", "PSNR, least", "PSNR, median", *_WAYS]
    lines = itertools.chain(
        ["# Marks of pictures", "", "Written by `python -m bench.provenance`.", ""],
        [f"{machine.processor}, {machine.cores} cores; one thread.", ""],
        ["## The invisible mark is found again", ""],
        ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", *rows, ""],
        [f"Looking for {_WRONG_KEYS} keys in each picture without a mark: {false} false finds"],
        [f"in {trials}; the surest of them was sure to {surest:.6f}, and {FOUND} counts."],
        ["", "## What it costs", ""],
        ["| What | Pixels along an edge | ms | of drawing a picture |", "|---|---|---|---|"],
        [*costs, ""],
        [f"Drawing a picture: 256 x 256, {_STEPS} steps, {drawing * 1e3:.0f} ms."],
    )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--out", type=Path, default=Path("bench/results/provenance.md"))
    chosen = parser.parse_args(arguments)
    text = measured(chosen.photographs)
    chosen.out.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
