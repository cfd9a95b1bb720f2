"""Tiles cover every picture, share what they should, and count for one together."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.chain.backends.upscaling.tiles import cut, fadings, halved
from domains.chain.types import UpscaleStep
from domains.model.core.enlarging import (
    LEAST_TILE,
    enlarged_size,
    tile_bytes,
    tile_fitting,
    upscale_bytes,
)
from domains.model.core.passes import passes

units = st.sampled_from([1, 2, 4])
lengths, tiles, overlaps = st.integers(1, 3000), st.integers(1, 2048), st.integers(0, 256)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 3000), st.integers(1, 2048), st.integers(0, 256), units, st.integers(1, 8)
)
def test_every_axis_is_covered_by_tiles_of_one_length(length, tile, overlap, unit, factor):
    length = -(-length // unit) * unit
    cuts = cut(length, tile, overlap, unit)
    assert cuts.starts[0] == 0
    assert cuts.starts[-1] + cuts.length == length
    assert all(start % unit == 0 for start in (*cuts.starts, cuts.length))
    assert cuts.length <= max(unit, tile)
    shared = [before + cuts.length - start for before, start in pairwise(cuts.starts)]
    most = (max(unit, tile // unit * unit) - unit) // 2 // unit * unit
    assert all(each >= min(overlap, most) for each in shared)
    assert all(before < start for before, start in pairwise(cuts.starts))
    # What each tile counts for, place by place of what is enlarged.
    fades = fadings(cuts, overlap, factor)
    ends = [
        start * factor + fade.end for start, fade in zip(cuts.starts[1:], fades, strict=True)
    ]
    begins = [e - (f.end - f.begin) for e, f in zip(ends, fades, strict=True)]
    assert begins == sorted(begins)
    for begin, end, before in zip(begins, ends, cuts.starts, strict=False):
        # Nobody fades where the tile before has ended, or where the own has not begun.
        assert end <= (before + cuts.length) * factor
        assert begin >= before * factor


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(16, 128), st.integers(0, 63), st.integers(1, 4))
def test_weights_of_all_tiles_add_up_to_one(length, tile, overlap, factor):
    cuts = cut(length, tile, overlap)
    fades = fadings(cuts, overlap, factor)
    total = [0.0] * (length * factor)
    for place in range(cuts.length * factor):
        total[place] = 1.0
    for start, fade in zip(cuts.starts[1:], fades, strict=True):
        weights = fade.weights() + [1.0] * (cuts.length * factor - fade.end)
        assert all(0 < weight <= 1 for weight in weights)
        for place, weight in enumerate(weights, start * factor + fade.begin):
            total[place] = total[place] * (1 - weight) + weight
    assert total == pytest.approx([1.0] * len(total))


def test_a_picture_that_fits_is_one_tile():
    assert cut(100, 128, 16).starts == (0,)
    assert cut(1, 8, 0) == cut(1, 2048, 256)


def test_tiles_are_no_larger_than_they_need_to_be():
    cuts = cut(1024, 512, 16)
    assert (len(cuts.starts), cuts.length) == (3, 352)


def test_the_fading_keeps_away_from_the_edges_of_tiles():
    (fade,) = fadings(cut(100, 64, 16), 16, 4)
    shared = 2 * cut(100, 64, 16).length - 100
    assert fade.begin >= 16 // 4 * 4
    assert shared * 4 - fade.end >= 16 // 4 * 4


def test_halves_down_to_the_least():
    edge, found = 1024, []
    while edge is not None:
        found.append(edge)
        edge = halved(edge)
    assert found == [1024, 512, 256, 128, LEAST_TILE]
    assert halved(300) == 144


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.floats(1, 8),
    st.sampled_from([1, 2, 3, 4, 8]),
)
def test_passes_reach_the_size_and_little_more(size, factor, by_network):
    wanted = enlarged_size(size, factor)
    found = passes(size, wanted, by_network)
    given_last = found[-1].given if found else size
    if by_network == 1:
        assert [each.taken for each in found] == [size]
        return
    assert all(have >= want for have, want in zip(given_last, wanted, strict=True))
    assert all(each.given == tuple(by_network * e for e in each.taken) for each in found)
    # No pass takes more than the one before gave, and all but the first end where they should.
    for before, after in pairwise(found):
        assert all(a <= b for a, b in zip(after.taken, before.given, strict=True))
    if len(found) > 1:
        assert all(
            have - want < by_network for have, want in zip(given_last, wanted, strict=True)
        )


@pytest.mark.parametrize(
    ("factor", "by_network", "taken"),
    [
        (1, 4, []),
        (1, 1, [(30, 20)]),
        (2, 4, [(30, 20)]),
        (4, 4, [(30, 20)]),
        (8, 4, [(30, 20), (60, 40)]),
        (3, 2, [(30, 20), (45, 30)]),
        (8, 2, [(30, 20), (60, 40), (120, 80)]),
        (8, 1, [(30, 20)]),
    ],
)
def test_passes(factor, by_network, taken):
    wanted = enlarged_size((30, 20), factor)
    assert [each.taken for each in passes((30, 20), wanted, by_network)] == taken


def test_passes_reach_a_size_of_another_shape():
    found = passes((104, 72), (136, 96), 2)
    assert [(each.taken, each.given) for each in found] == [((104, 72), (208, 144))]
    found = passes((100, 50), (300, 250), 2)  # the shorter edge needs a third pass
    assert [each.taken for each in found] == [(100, 50), (200, 100), (150, 125)]


def test_halves_are_rounded_up():
    assert enlarged_size((1, 3), 1.5) == (2, 5)
    assert enlarged_size((1, 1), 1.2) == (1, 1)


NETWORK = {"factor": 4, "numbers_per_pixel": 3072, "number_bytes": 2}


def test_the_tile_that_is_chosen_fits_and_the_next_does_not():
    size = (4096, 4096)
    for free in (1 << 28, 1 << 30, 1 << 32):
        tile = tile_fitting(free, size, **NETWORK, most=2048)
        assert tile % 8 == 0
        assert tile_bytes((tile, tile), size[0], **NETWORK) <= free
        assert tile_bytes((tile + 8, tile + 8), size[0], **NETWORK) > free


def test_no_more_is_chosen_than_wanted_and_no_less_than_the_least():
    assert tile_fitting(1 << 40, (4096, 4096), **NETWORK, most=1024) == 1024
    assert tile_fitting(1 << 40, (300, 100), **NETWORK, most=1024) == 304
    assert tile_fitting(None, (4096, 4096), **NETWORK, most=512) == 512
    assert tile_fitting(-5, (4096, 4096), **NETWORK, most=512) == LEAST_TILE
    assert tile_fitting(0, (1, 1), **NETWORK, most=512) == LEAST_TILE


def test_an_estimate_has_weights_and_the_part_of_a_tile_that_there_is():
    assert upscale_bytes(100, (10, 20), 512, **NETWORK) == 100 + tile_bytes(
        (10, 20), 10, **NETWORK
    )


@settings(max_examples=100, deadline=None)
@given(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), st.floats(1, 8))
def test_a_step_says_the_size_that_comes(size, factor):
    assert UpscaleStep(factor=factor).size_after(size) == enlarged_size(size, factor)
