"""Canny's edges lie where shapes end, are one pixel wide and follow its thresholds."""

from __future__ import annotations

import pytest
import torch

from demo.train.parts.edges import canny

SIDE = 64


def grey(levels: torch.Tensor) -> torch.Tensor:
    """8-bit levels [H, W] as pixels [1, 3, H, W]."""
    return (levels / 127.5 - 1).repeat(1, 3, 1, 1)


def square(inside: float, outside: float = 0.0) -> torch.Tensor:
    levels = torch.full((SIDE, SIDE), outside)
    levels[16:48, 16:48] = inside
    return grey(levels)


def test_a_plain_picture_has_no_edges() -> None:
    assert canny(grey(torch.full((SIDE, SIDE), 90.0))).sum() == 0


def test_a_square_is_its_outline() -> None:
    edges = canny(square(255.0))[0, 0]
    rows, columns = edges.nonzero().unbind(1)
    far = torch.maximum((rows - 31.5).abs(), (columns - 31.5).abs())
    assert far.min() >= 14.5
    assert far.max() <= 16.5
    # One pixel wide: four sides of 32, give or take the corners.
    assert 116 <= edges.sum() <= 140
    assert edges[32, 10:22].sum() == 1


def test_a_disc_is_a_closed_line_of_its_circumference() -> None:
    place = torch.arange(SIDE) - 31.5
    inside = (place[:, None] ** 2 + place[None] ** 2) < 20**2
    edges = canny(grey(inside.float() * 255))[0, 0]
    rows, columns = edges.nonzero().unbind(1)
    radius = ((rows - 31.5) ** 2 + (columns - 31.5) ** 2).sqrt()
    assert (radius - 20).abs().max() < 1.6
    angles = torch.atan2(rows - 31.5, columns - 31.5).sort().values
    assert (angles.diff() * 20).max() < 2.5


def test_pictures_of_a_batch_do_not_mix() -> None:
    batch = torch.cat([square(255.0), grey(torch.zeros(SIDE, SIDE)), square(0.0, 255.0)])
    edges = canny(batch)
    assert edges.shape == (3, 1, SIDE, SIDE)
    assert edges[1].sum() == 0
    assert torch.equal(edges[0], canny(square(255.0))[0])
    assert edges[2].sum() > 100


def test_below_the_lower_threshold_nothing_is_an_edge() -> None:
    faint = square(10.0)
    assert canny(faint).sum() == 0
    assert canny(faint, low=5.0, high=10.0).sum() > 100


def test_a_weak_line_is_kept_only_where_a_strong_one_leads_into_it() -> None:
    # An edge whose contrast falls along it: strong above, weak below.
    contrast = torch.linspace(120, 30, SIDE)[:, None]
    fading = torch.where(torch.arange(SIDE)[None] < 32, torch.zeros(1, 1), contrast)
    joined = canny(grey(fading), low=100.0, high=300.0, sigma=0)[0, 0]
    assert joined[:, 30:34].sum() > 60
    # The same weak half alone has nothing that starts it.
    alone = canny(grey(fading[44:]), low=100.0, high=300.0, sigma=0)
    assert alone.sum() == 0


def test_smoothing_removes_specks_and_keeps_shapes() -> None:
    speckled = square(255.0)
    speckled[0, :, 5, 5] += 160 / 127.5
    assert canny(speckled, sigma=0)[0, 0, 2:9, 2:9].sum() > 0
    assert canny(speckled, sigma=1.4)[0, 0, 2:9, 2:9].sum() == 0
    assert canny(speckled, sigma=1.4).sum() > 100


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"low": 0.0}, "low"), ({"low": 9.0, "high": 8.0}, "high"), ({"sigma": -1.0}, "sigma")],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        canny(square(255.0), **settings)
