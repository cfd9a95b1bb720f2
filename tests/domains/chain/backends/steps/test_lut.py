"""Tables of colours, against scipy's interpolation in double precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator  # type: ignore[import-untyped]

from domains.chain.backends.steps.lut import lut
from domains.chain.types import LutStep, Table
from domains.errors import Unavailable
from tests.domains.chain.pictures import counted, ignored, noise, same

LOW, HIGH = (-0.25, 0.0, 0.1), (1.0, 1.5, 0.9)


def table(path: Path, colours: np.ndarray, low=(0.0,) * 3, high=(1.0,) * 3) -> Table:
    """Colours `[blue, green, red, 3]`, or `[entries, 3]`, in a file."""
    path.write_bytes(colours.astype("<f4").tobytes())
    return Table(path, colours.shape[0], colours.ndim == 4, low, high)


@pytest.mark.parametrize("strength", [1.0, 0.3])
@pytest.mark.parametrize("entries", [2, 5, 33])
def test_a_table_of_three_dimensions_is_interpolated_along_each(
    entries: int, strength: float, tmp_path: Path
) -> None:
    colours = np.random.default_rng(entries).uniform(-0.2, 1.2, (entries,) * 3 + (3,))
    canvas = noise(40, 30, alpha=True)

    found = lut(canvas, LutStep(strength, table(tmp_path / "t", colours, LOW, HIGH)), ignored)

    grid = [np.linspace(LOW[k], HIGH[k], entries) for k in range(3)]
    reference = RegularGridInterpolator(grid, colours.transpose(2, 1, 0, 3))
    shares = canvas.pixels / 255
    looked_up = reference(shares.clip(LOW, HIGH)).clip(0, 1)
    wanted = np.rint(255 * (shares + strength * (looked_up - shares)))
    assert np.abs(found.pixels - wanted).max() <= 1
    assert found.alpha is canvas.alpha


def test_a_table_of_one_dimension_has_a_curve_for_each_channel(tmp_path: Path) -> None:
    colours = np.random.default_rng(3).uniform(0, 1, (17, 3))
    canvas = noise(40, 30)

    found = lut(canvas, LutStep(1.0, table(tmp_path / "t", colours, LOW, HIGH)), ignored)

    for k in range(3):
        grid = np.linspace(LOW[k], HIGH[k], 17)
        wanted = 255 * np.interp(canvas.pixels[..., k] / 255, grid, colours[:, k])
        assert np.abs(found.pixels[..., k] - np.rint(wanted)).max() <= 1


def test_a_table_that_says_the_same_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domains.chain.backends.steps.lut._ROWS", 8)
    told, between = counted()
    along = np.linspace(0, 1, 9)
    blue, green, red = np.meshgrid(along, along, along, indexing="ij")
    step = LutStep(1.0, table(tmp_path / "t", np.stack((red, green, blue), -1)))
    canvas = noise(30, 20, alpha=True)

    assert same(lut(canvas, step, between), canvas)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert lut(canvas, LutStep(0.0), ignored) is canvas


def test_a_table_that_is_gone_is_an_error_that_says_so(tmp_path: Path) -> None:
    found = table(tmp_path / "t", np.zeros((2, 3)))
    found.path.write_bytes(bytes(23))
    with pytest.raises(Unavailable, match="table of colours"):
        lut(noise(2, 2), LutStep(1.0, found), ignored)
    found.path.unlink()
    with pytest.raises(Unavailable, match="table of colours"):
        lut(noise(2, 2), LutStep(1.0, found), ignored)
