"""Pictures enlarged in tiles: as if there were none, whatever size, however little memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from domains.chain.backends.upscaling import enlarging
from domains.chain.backends.upscaling.enlarging import PassMade, enlarge, enlarge_alpha
from domains.chain.backends.upscaling.lanczos import heightened, widened
from domains.chain.backends.upscaling.tiled import Box
from domains.chain.backends.upscaling.under_way import Pixels
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.errors import Cancelled, FailedPrecondition, Reason, ResourceExhausted
from domains.model.backends.upscalers import compact
from domains.model.core.enlarging import enlarged_size, tile_bytes
from tests.domains.chain.backends.upscaling.files import (
    CPU,
    demo,
    loaded,
    random_weights,
    small_compact,
    small_rrdb,
)


def ready(network: nn.Module, factor: int, unit: int = 1) -> Upscaler:
    """A network that is no file's."""
    return Upscaler(network, "test", factor, 3, unit, 100, CPU, torch.float32, False)


class Nearest(nn.Module):
    """Repeats pixels, which is exact in any tiling."""

    def __init__(self, factor: int, unit: int = 1) -> None:
        super().__init__()
        self.factor, self.unit = factor, unit

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        assert all(edge % self.unit == 0 for edge in pixels.shape[-2:])
        return pixels.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)


def picture(height: int, width: int, seed: int = 1) -> Pixels:
    """Soft shapes with some noise, as photographs have them."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), np.uint8)
    soft = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    noise = random.integers(-12, 13, soft.shape)
    return np.clip(soft.astype(int) + noise, 0, 255).astype(np.uint8)


def apart(one: Pixels, other: Pixels) -> npt.NDArray[np.int64]:
    return np.abs(one.astype(int) - other.astype(int))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(8, 48),
    st.integers(0, 31),
    st.sampled_from([(1, 1), (2, 1), (3, 1), (2, 2), (1, 4)]),
)
def test_tiles_are_told_with_where_they_lie(height, width, tile, overlap, network):
    factor, unit = network
    pixels = picture(height, width)
    painted = np.zeros((height * factor, width * factor, 3), np.uint8)
    numbers: list[int] = []

    def shown(tile: torch.Tensor, box: Box, done: int) -> None:
        edges = (box.top * height, box.bottom * height, box.left * width, box.right * width)
        top, bottom, left, right = (round(edge * factor) for edge in edges)
        levels = (tile * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        painted[top:bottom, left:right] = levels
        numbers.append(done)

    upscaler = ready(Nearest(factor, unit), factor, unit)
    found = enlarge(upscaler, pixels, factor, tile, overlap, shown=shown)

    assert np.array_equal(painted, found)
    assert numbers == list(range(1, len(numbers) + 1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(8, 64),
    st.integers(0, 31),
    st.sampled_from([(1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (1, 4)]),
)
def test_every_pixel_lands_where_it_belongs(height, width, tile, overlap, network):
    factor, unit = network
    pixels = picture(height, width)
    found = enlarge(ready(Nearest(factor, unit), factor, unit), pixels, factor, tile, overlap)
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels.repeat(factor, 0).repeat(factor, 1))


@pytest.fixture(scope="module")
def four() -> Upscaler:
    return demo(4)


@dataclass(frozen=True)
class Ways:
    """A picture enlarged whole, in tiles, and in tiles that share nothing."""

    whole: Pixels
    tiled: Pixels
    bare: Pixels
    made: list[PassMade]


@pytest.fixture(scope="module")
def ways(four: Upscaler) -> Ways:
    made: list[PassMade] = []
    pixels = picture(70, 111)
    found = [
        enlarge(four, pixels, 4, tile, overlap, tell=made.append)
        for tile, overlap in ((2048, 16), (48, 16), (48, 0))
    ]
    return Ways(*found, made)


def test_in_tiles_it_is_the_same_picture(ways):
    assert [each.tiles for each in ways.made] == [1, 6, 6]
    assert apart(ways.whole, ways.tiled).max() <= 1
    # Without overlap it is not: the measure sees seams.
    assert apart(ways.whole, ways.bare).max() > 10


def test_no_seam_shows(ways):
    """Where tiles meet, steps between neighbouring pixels are those of the whole picture."""

    def most(tiled: Pixels, axis: int) -> float:
        steps = [np.abs(np.diff(p.astype(int), axis=axis)) for p in (tiled, ways.whole)]
        ours, theirs = (each.mean(axis=(1 - axis, 2)) + 1 for each in steps)
        return float((ours / theirs).max())

    for axis in (0, 1):
        assert most(ways.tiled, axis) < 1.02
        assert most(ways.bare, axis) > 1.1


@pytest.mark.parametrize("folded", [1, 2])
def test_rrdb_in_tiles(tmp_path, folded):
    upscaler = loaded(small_rrdb(3 * folded**2, 2), tmp_path)
    pixels = picture(71, 93)
    whole, tiled = (enlarge(upscaler, pixels, upscaler.factor, tile) for tile in (512, 64))
    assert whole.shape == (71 * upscaler.factor, 93 * upscaler.factor, 3)
    assert apart(whole, tiled).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (5, 3), (65, 64)])
@pytest.mark.parametrize("factor", [1, 1.5, 2, 3, 5.3, 8])
def test_any_size_by_any_factor(tmp_path, size, factor):
    width, height = size
    found = enlarge(loaded(small_compact(2), tmp_path), picture(height, width), factor, 64)
    assert found.shape[1::-1] == enlarged_size(size, factor)


def test_by_one_a_picture_stays_what_it_is(four):
    pixels = picture(9, 7)
    assert np.array_equal(enlarge(four, pixels, 1), pixels)


def test_a_network_of_no_enlargement_runs_once():
    class Darker(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels / 2

    pixels = np.full((20, 20, 3), 200, np.uint8)
    assert np.array_equal(enlarge(ready(Darker(), 1), pixels, 1), pixels // 2)
    assert enlarge(ready(Darker(), 1), pixels, 2).shape == (40, 40, 3)
    assert int(enlarge(ready(Darker(), 1), pixels, 2).max()) == 100


def test_progress_counts_over_all_passes_and_may_stop(tmp_path):
    upscaler = loaded(small_compact(2), tmp_path)
    seen: list[tuple[int, int]] = []
    enlarge(upscaler, picture(70, 70), 4, 64, 16, lambda *now: seen.append(now))
    total = seen[-1][1]
    assert seen == [(done, total) for done in range(1, total + 1)]
    assert total == 4 + 9

    def stop(done: int, _tiles: int) -> None:
        if done == 2:
            raise Cancelled("stop")
        seen.append((done, 0))

    seen.clear()
    with pytest.raises(Cancelled):
        enlarge(upscaler, picture(70, 70), 4, 64, 16, stop)
    assert seen == [(1, 0)]


class Hungry(Nearest):
    """Has memory for so many pixels."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__(2)
        self.most, self.error = most, error
        self.tried: list[tuple[int, int]] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.tried.append((pixels.shape[-2], pixels.shape[-1]))
        if pixels[0, 0].numel() > self.most:
            raise self.error
        return super().forward(pixels)


SHORTAGES = (
    (
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        Reason.DEVICE_OUT_OF_MEMORY,
    ),
    (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B"),
        Reason.HOST_OUT_OF_MEMORY,
    ),
)


@pytest.mark.parametrize(("error", "_reason"), SHORTAGES, ids=["device", "host"])
def test_tiles_are_halved_until_there_is_memory(error, _reason):
    network = Hungry(100 * 100, error)
    pixels = picture(300, 200)
    made: list[PassMade] = []
    found = enlarge(ready(network, 2), pixels, 2, 512, tell=made.append)
    assert np.array_equal(found, pixels.repeat(2, 0).repeat(2, 1))
    # As large as the picture, a half and a quarter of it.
    assert network.tried[0] == (300, 200)
    assert made == [PassMade(72, 24, torch.float32)]


@pytest.mark.parametrize(("error", "reason"), SHORTAGES, ids=["device", "host"])
def test_memory_for_no_tile_is_a_typed_error(error, reason):
    network = Hungry(100, error)
    with pytest.raises(ResourceExhausted) as caught:
        enlarge(ready(network, 2), picture(300, 300), 2)
    assert caught.value.reason is reason
    assert "smaller tiles" in caught.value.message
    assert len(set(network.tried)) >= 2


def test_what_is_no_shortage_comes_through():
    with pytest.raises(ZeroDivisionError):
        enlarge(ready(Hungry(1, ZeroDivisionError("x")), 2), picture(8, 8), 2)


def test_memory_that_a_caller_lacks_is_not_the_networks():
    """A stop that says why it stops is no reason for smaller tiles."""
    network = Hungry(1 << 30, ValueError())

    def stop(_done: int, _tiles: int) -> None:
        raise ResourceExhausted("out of memory", reason=Reason.DISK_FULL)

    with pytest.raises(ResourceExhausted) as caught:
        enlarge(ready(network, 2), picture(100, 100), 2, 64, 16, stop)
    assert caught.value.reason is Reason.DISK_FULL
    assert len(network.tried) == 1


class Overflowing(Nearest):
    """Gives numbers that are not finite, in float16 or always."""

    def __init__(self, *types: torch.dtype) -> None:
        super().__init__(2)
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float16))
        self.types = types

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.dtype == self.weight.dtype
        return super().forward(pixels) * (torch.inf if pixels.dtype in self.types else 1)


def test_numbers_beyond_float16_are_computed_in_float32():
    upscaler = ready(Overflowing(torch.float16), 2)
    upscaler.data_type = torch.float16
    pixels = picture(40, 90)
    made: list[PassMade] = []
    found = enlarge(upscaler, pixels, 2, 64, tell=made.append)
    assert np.array_equal(found, pixels.repeat(2, 0).repeat(2, 1))
    assert made[0].data_type is torch.float32
    assert upscaler.data_type is torch.float32


def test_numbers_beyond_float32_are_an_error():
    upscaler = ready(Overflowing(torch.float16, torch.float32), 2)
    upscaler.data_type = torch.float16
    with pytest.raises(FailedPrecondition) as caught:
        enlarge(upscaler, picture(8, 8), 2)
    assert caught.value.reason is Reason.NON_FINITE_OUTPUT


def test_the_tile_is_chosen_by_free_memory(monkeypatch, tmp_path):
    upscaler = loaded(small_compact(2), tmp_path)
    made: list[PassMade] = []
    pixels = picture(300, 300)
    enlarge(upscaler, pixels, 2, tell=made.append)
    # A tile of the size that the processor's caches like.
    assert made[-1].tile_pixels == 192
    # What the result takes is main memory too.
    needed = 512 << 20, 600 * 600 * 3, tile_bytes((128, 128), 300, 2, 8, 4)
    numbers = dataclasses.replace(upscaler, numbers_per_pixel=8)
    monkeypatch.setattr(enlarging, "obtainable_bytes", lambda _device: sum(needed))
    enlarge(numbers, pixels, 2, tell=made.append)
    assert made[-1].tile_pixels == 128
    enlarge(numbers, pixels, 2, 160, tell=made.append)
    assert made[-1].tile_pixels == 128, "more than that was asked for"
    enlarge(numbers, pixels, 2, 72, tell=made.append)
    assert made[-1].tile_pixels == 72
    monkeypatch.setattr(enlarging, "obtainable_bytes", lambda _device: 4 << 20)
    enlarge(numbers, pixels, 2, tell=made.append)
    assert made[-1].tile_pixels == 64


@pytest.mark.parametrize("tile", [0, 2048])
def test_what_main_memory_does_not_have_is_refused_before_it_is_taken(monkeypatch, tile):
    """The system would hand it out and end the worker."""
    least = 600 * 600 * 3 + tile_bytes((64, 64), 300, 2, 100, 4)
    network = Hungry(1 << 30, ValueError())
    monkeypatch.setattr(enlarging, "obtainable_bytes", lambda _device: least - 1)
    with pytest.raises(ResourceExhausted) as caught:
        enlarge(ready(network, 2), picture(300, 300), 2, tile)
    assert caught.value.reason is Reason.HOST_OUT_OF_MEMORY
    facts = {"needed_bytes": str(least), "free_bytes": str(least - 1)}
    assert caught.value.metadata == facts
    assert not network.tried
    monkeypatch.setattr(enlarging, "obtainable_bytes", lambda _device: least)
    enlarge(ready(network, 2), picture(300, 300), 2, tile)


def test_another_devices_memory_is_its_own_to_refuse(monkeypatch):
    """What it does not have it does not hand out, so as large tiles are tried as are asked
    for."""
    monkeypatch.setattr(enlarging, "in_main_memory", lambda _device: False)
    monkeypatch.setattr(enlarging, "obtainable_bytes", lambda _device: 0)
    made: list[PassMade] = []
    enlarge(ready(Nearest(2), 2), picture(300, 300), 2, 512, tell=made.append)
    assert made[-1].tile_pixels == 512


def lanczos(pixels: Pixels, width: int, height: int) -> Pixels:
    """Pillow's, of the whole picture across and then down."""
    across = Image.fromarray(pixels).resize((width, len(pixels)), Image.Resampling.LANCZOS)
    return np.asarray(across.resize((width, height), Image.Resampling.LANCZOS))


@settings(max_examples=40, deadline=None)
@given(*4 * [st.integers(1, 1100)])
def test_resizing_part_by_part_is_resizing_the_whole(width, height, wide, high):
    pixels = picture(height, width)
    found = heightened(widened(pixels, wide), high)
    assert np.array_equal(found, lanczos(pixels, wide, high))


def test_what_a_pass_makes_too_large_is_resized_row_by_row():
    """As the whole of it would be."""
    upscaler, pixels = ready(Nearest(4), 4), picture(90, 130)
    found = enlarge(upscaler, pixels, 1.7, 64)
    assert np.array_equal(found, lanczos(pixels.repeat(4, 0).repeat(4, 1), 221, 153))


def test_a_grey_network_sees_each_colour(tmp_path):
    upscaler = loaded(random_weights(compact.shapes(1, 4, 1, 2, 1)), tmp_path)
    pixels = picture(20, 30)
    found = enlarge(upscaler, pixels, 2)
    for colour in range(3):
        alone = np.repeat(pixels[:, :, colour : colour + 1], 3, 2)
        assert np.array_equal(enlarge(upscaler, alone, 2)[:, :, 0], found[:, :, colour])


def test_alpha_is_enlarged_as_a_picture(four):
    alpha = np.zeros((24, 40), np.uint8)
    alpha[8:16, 10:30] = 255
    found = enlarge_alpha(four, alpha, 4)
    assert found.shape == (96, 160)
    assert int(found[40:56, 60:100].min()) >= 253
    assert int(found[:16].max()) <= 2
    assert enlarge_alpha(four, alpha, 2.5).shape == (60, 100)


def test_an_alpha_without_edges_needs_no_network():
    network = Hungry(0, AssertionError())
    for level in (0, 77, 255):
        found = enlarge_alpha(ready(network, 2), np.full((3, 5), level, np.uint8), 3)
        assert np.array_equal(found, np.full((9, 15), level, np.uint8))
    assert network.tried == []
