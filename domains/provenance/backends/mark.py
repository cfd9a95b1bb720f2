"""An invisible mark in a picture's pixels, found again without the picture as it was before.

A secret pattern of 128 by 128 pixels lies over the picture like tiles, a few levels strong at
most, more in texture than in plain parts, in the middle frequencies that encoders keep. Whoever
has the key folds a picture onto one tile, where the picture's own content averages out and the
pattern adds up, and looks by phase at every shift at once: cropping is a shift.

After T. Kalker, G. Depovere, J. Haitsma and M. Maes, "A video watermarking system for broadcast
monitoring", Proc. SPIE 3657 (1999).
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from domains.provenance.errors import InvalidProvenance
from domains.provenance.types import FOUND

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]

TILE = 128
LEAST_DECIBELS = 39.0
"""PSNR of a marked picture against the same without the mark, but for rounding."""
# Cycles per pixel: below is the picture, above is what encoders drop first.
_BAND = (0.06, 0.25)
_PLAIN_LEVELS = 1.4
_LEVELS_PER_DEVIATION = 0.25
_MOST_LEVELS = 6.0
_WINDOW = 9
# As much local deviation as counts for none, so that plain parts are not all noise.
_QUIET = 1.5
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def add_mark(pixels: Pixels, key: bytes) -> Pixels:
    """The picture with the mark of `key`.

    Args:
        pixels: uint8 `[height, width, 3]`, both edges at least 96.
        key: Secret bytes.
    """
    height, width = pixels.shape[:2]
    deviation = _local(pixels @ _LUMA)[1]
    levels = np.minimum(_PLAIN_LEVELS + _LEVELS_PER_DEVIATION * deviation, _MOST_LEVELS)
    most = 255.0 / 10 ** (LEAST_DECIBELS / 20)
    levels *= min(1.0, most / math.sqrt(float(np.mean(levels * levels))))
    tiles = np.tile(_pattern(key), (-(-height // TILE), -(-width // TILE)))
    change = np.rint(levels * tiles[:height, :width]).astype(np.int16)
    changed: Pixels = np.clip(pixels + change[..., None], 0, 255).astype(np.uint8)
    return changed


def marked(pixels: Pixels, key: str, field: str) -> Pixels:
    """The picture with a mark that is surely found in it again.

    Args:
        pixels: As for `add_mark`.
        key: In hexadecimal.
        field: What asks for the mark.

    Raises:
        InvalidProvenance: DIMENSIONS_INVALID: it would not be found.
    """
    done = add_mark(pixels, bytes.fromhex(key))
    if confidence(done, bytes.fromhex(key)) < FOUND:
        raise InvalidProvenance.drowned(field)
    return done


def confidence(pixels: Pixels, key: bytes) -> float:
    """How sure it is that the picture bears the mark of `key`, from 0 to 1: one less the
    chance that a picture without it looks as much like it.

    Args:
        pixels: uint8 `[height, width, 3]`.
        key: As it was marked with.
    """
    mean, deviation = _local(luma := pixels @ _LUMA)
    spectrum = np.fft.rfft2(_folded((luma - mean) / (deviation + _QUIET)))
    wanted = np.fft.rfft2(_pattern(key))
    product = spectrum * np.conj(wanted)
    size = np.abs(product)
    alike = np.fft.irfft2(np.where(size > 0, product / np.maximum(size, 1e-12), 0) * _band())
    score = float(alike.max() / max(alike.std(), 1e-12))
    # Of so many shifts of white noise, none reaches it with this chance.
    beyond = 0.5 * math.erfc(score / math.sqrt(2))
    return math.exp(TILE * TILE * math.log1p(-beyond)) if beyond < 1 else 0.0


@lru_cache(4)
def _pattern(key: bytes) -> Plane:
    """The tile of a key: mean 0, deviation 1. The same with every version of every library."""
    stream = hashlib.shake_256(key).digest(4 * TILE * (TILE // 2 + 1))
    phases = np.frombuffer(stream, "<u4").reshape(TILE, -1) * (2 * np.pi / 2**32)
    tile = np.fft.irfft2(np.exp(1j * phases) * _band(), (TILE, TILE))
    pattern: Plane = ((tile - tile.mean()) / tile.std()).astype(np.float32)
    return pattern


@lru_cache(1)
def _band() -> npt.NDArray[np.bool_]:
    radius = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :])
    band: npt.NDArray[np.bool_] = (radius >= _BAND[0]) & (radius <= _BAND[1])
    return band


def _local(luma: Plane) -> tuple[Plane, Plane]:
    """Mean and deviation of each pixel's surroundings."""
    mean = _blurred(luma)
    return mean, np.sqrt(np.maximum(_blurred(luma * luma) - mean * mean, 0))


def _blurred(plane: Plane) -> Plane:
    half = _WINDOW // 2
    for axis in (0, 1):
        wide = [(half + 1, half) if each == axis else (0, 0) for each in (0, 1)]
        sums = np.cumsum(np.pad(plane, wide, "edge"), axis=axis, dtype=np.float64)
        length = plane.shape[axis]
        above, below = np.split(sums, [_WINDOW], axis=axis)[1], sums.take(range(length), axis)
        plane = ((above - below) / _WINDOW).astype(np.float32)
    return plane


def _folded(plane: Plane) -> Plane:
    """The sum of all tiles."""
    height, width = plane.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    padded = np.pad(plane, ((0, rows * TILE - height), (0, columns * TILE - width)))
    tile: Plane = padded.reshape(rows, TILE, columns, TILE).sum(axis=(0, 2))
    return tile
