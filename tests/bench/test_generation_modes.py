"""Modes are compared as they are: both draw the same picture, and steps are what they say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from bench.generation_modes import main, measure, report
from bench.machine import describe_machine
from bench.mode_inputs import Shape
from bench.mode_pairs import pairs
from bench.unet_calls import Taken, noted_calls

# Of the least size; the refiner does the last two steps.
SHAPE = Shape(steps=10, edge=64)


# peft speaks up about every adapter beside the first.
@pytest.mark.matrix  # a minute
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_both_draw_the_same_picture_in_every_mode(tmp_path: Path) -> None:
    """Otherwise they would not be doing the same work, nor with other counts of calls."""
    with noted_calls() as calls, torch.no_grad():
        found = asyncio.run(measure(pairs(SHAPE, tmp_path), 1, calls))

    assert {"inpainting", "ControlNet", "two LoRAs", "refiner", "clip skip"} < set(found)
    assert {name: each.same for name, each in found.items()} == dict.fromkeys(found, 1)
    for each in found.values():
        (ours,), (theirs,) = each.ours, each.theirs
        assert ours.facts["calls"] == theirs.facts["calls"] > 0
        assert 0 < ours.facts["step"] * (ours.facts["calls"] - 2) < ours.seconds
    pictures = {each.ours[0].labels["pixels"] for each in found.values()}
    assert len(pictures) == len(found) - 1, "previews change nothing, all else does"
    text = report(found, describe_machine(), 0.0, SHAPE)
    for name in found:
        assert text.count(f"| {name} |") == 2
        assert f"- {name}: 1 of 1" in text


def test_a_step_lasts_from_call_to_call_of_its_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies between loops belongs to none."""
    moments = (Taken(at, 2 * at) for at in (0.0, 1.0, 3.0, 50.0, 52.0))
    monkeypatch.setattr(Taken, "now", lambda: next(moments))
    small, large = torch.zeros(1), torch.zeros(2)
    with noted_calls() as calls:
        for sample in (small, small, small, large, large):
            calls.note(calls, sample)

    assert calls.count == 5
    assert calls.per_step() == Taken((3.0 + 2.0) / 3, 2 * (3.0 + 2.0) / 3)


def test_a_mode_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "nothing like it"])
    assert "no mode has 'nothing like it'" in capsys.readouterr().err
