"""Chains are compared as they are: both ways make the same picture, and a served one is it."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.chain import main, measure
from bench.chain_ways import Chain, Pixels, by_executor, by_hand, chains
from bench.upscaling_ways import synthetic
from domains.chain.types import ResizeStep

EDGE = 64


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Chain]:
    return {chain.name: chain for chain in chains(EDGE, tmp_path)}


def test_both_ways_make_the_same_picture_and_a_file_of_it(found: dict[str, Chain]) -> None:
    """Otherwise they would not be doing the same work."""
    pixels = synthetic(EDGE)
    for chain in found.values():
        for way in (by_executor, by_hand):
            result, file = way(chain, pixels)
            image = Image.open(io.BytesIO(file))
            assert image.format == chain.format.value.upper()
            assert image.size == result.shape[1::-1]
            assert not np.array_equal(result, pixels)
        taken = asyncio.run(measure(chain, pixels, 1))
        assert taken.apart <= chain.apart
        assert set(taken.samples) == {"executor", "plain"}
        assert f"| {chain.name} |" in taken.row()


def test_ways_that_make_other_pictures_are_an_error(found: dict[str, Chain]) -> None:
    def black(pixels: Pixels) -> Pixels:
        return np.zeros_like(pixels)

    chain = next(iter(found.values()))
    other = replace(chain, steps=(ResizeStep(EDGE, EDGE),), plain=black)
    with pytest.raises(AssertionError, match="levels are"):
        asyncio.run(measure(other, synthetic(EDGE), 1))


def test_a_report_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "chain.md"
    arguments = ["--rounds", "1", "--edge", "96", "--served", "--out", str(out)]

    assert main([*arguments, "--only", "resize"]) == 0

    text = out.read_text("utf-8")
    assert text == capsys.readouterr().out
    (row,) = [line for line in text.splitlines() if line.startswith("| resize, colour, PNG |")]
    *_, served, _, _ = row.split("|")
    assert float(served) > 0
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--only", "nothing like it"])
