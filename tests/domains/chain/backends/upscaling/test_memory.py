"""Estimates of memory beside what the process really took."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest

from domains import heap
from domains.chain.backends.upscaling.enlarging import enlarge
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.device.backends.torch_gauge import stretch_on
from domains.model.backends.upscalers import rrdb
from domains.model.core.enlarging import tile_bytes
from tests.domains.chain.backends.upscaling.files import CPU, demo, loaded, random_weights

TOLERANCE = (0.5, 1.5)
"""What the peak may be of the estimate. Of the convolutions' own memory nobody tells."""


def compact_4x(_folder: Path) -> Upscaler:
    return demo(4)


def rrdb_4x(folder: Path) -> Upscaler:
    return loaded(random_weights(rrdb.shapes(3, 3, 64, 32, 1, 2)), folder)


def rrdb_2x_folded(folder: Path) -> Upscaler:
    return loaded(random_weights(rrdb.shapes(12, 3, 64, 32, 1, 2)), folder)


@pytest.mark.demonstration
@pytest.mark.parametrize(
    ("made", "tile"), [(compact_4x, 192), (rrdb_4x, 128), (rrdb_2x_folded, 256)]
)
def test_a_peak_is_what_was_estimated(tmp_path, made, tile):
    upscaler = made(tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (tile, tile, 3)).astype(np.uint8)
    enlarge(upscaler, pixels[:32, :32], upscaler.factor)
    heap.collect_and_trim()
    before = psutil.Process().memory_info().rss
    stretch = stretch_on(CPU)
    enlarge(upscaler, pixels, upscaler.factor, tile)
    peak = stretch.peak().value
    if peak is None:
        pytest.skip("this system does not tell a peak for a stretch")
    numbers = upscaler.numbers_per_pixel
    stated = tile_bytes((tile, tile), tile, upscaler.factor, numbers, 4)
    assert TOLERANCE[0] < (peak - before) / stated < TOLERANCE[1]
