"""What becomes of a finished picture under each action."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from PIL import Image, ImageDraw

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.classifiers import Classifiers, Pixels
from domains.chain.backends.executor import Executor
from domains.chain.backends.safeguard import Withheld, apply, blurred
from domains.chain.types import CropStep, ResizeStep, SafetyStep
from domains.safety import (
    ClassifierFailure,
    SafetyAction,
    SafetyPolicy,
    SafetyRule,
    SafetyVerdict,
)


def _scene(width: int = 240, height: int = 160) -> Pixels:
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for k in range(0, width, 8):
        draw.line((k, 0, width - k, height), fill=(k % 256, 90, 255 - k % 256), width=3)
    draw.text((10, 10), "SECRET", fill="black")
    return np.asarray(image)


class Sure:
    """A classifier that is."""

    classifier_id = "sure"

    def score(self, pixels: Pixels) -> Mapping[str, float]:
        return {"nsfw": 0.75}


class Broken(Sure):
    """One that fails."""

    def score(self, pixels: Pixels) -> Mapping[str, float]:
        raise RuntimeError


def asking(made: Sure) -> Classifiers:
    return Classifiers({"sure": lambda: made}, lambda: {"sure": "1"})


SURE, BROKEN = asking(Sure()), asking(Broken())


def policy(
    action: SafetyAction, failure: ClassifierFailure = ClassifierFailure.BLOCK
) -> SafetyPolicy:
    rules = (SafetyRule("nsfw", 0.5, action),)
    return SafetyPolicy("p", 2, rules=rules, on_classifier_failure=failure)


CANVAS = Canvas(_scene(), _scene()[..., 0])


@pytest.mark.parametrize("action", [SafetyAction.ALLOW, SafetyAction.WARN])
def test_what_is_let_pass_is_the_same_picture(action: SafetyAction) -> None:
    judged = apply(CANVAS, policy(action), SURE)
    assert judged.canvas is CANVAS
    assert judged.verdict.action is action
    assert judged.verdict.flagged


def test_what_is_withheld_has_no_pixels() -> None:
    judged = apply(CANVAS, policy(SafetyAction.BLOCK), SURE)
    assert judged.canvas is None
    assert judged.verdict.action is SafetyAction.BLOCK


def test_what_is_blurred_has_its_size_and_its_outline_is_gone_too() -> None:
    judged = apply(CANVAS, policy(SafetyAction.BLUR), SURE)
    assert judged.canvas is not None
    assert judged.canvas.size == CANVAS.size
    assert (judged.canvas.pixels == blurred(CANVAS.pixels)).all()
    assert CANVAS.alpha is not None
    assert judged.canvas.alpha is not None
    assert (judged.canvas.alpha == blurred(CANVAS.alpha)).all()
    assert judged.verdict.action is SafetyAction.BLUR


class NoNetworks:
    """Steps of these tests need none."""

    def enlarge(self, canvas: Canvas, step: object, between: object) -> Canvas:
        raise AssertionError


class Quiet:
    """Hears nothing."""

    def piece(self, done: int, pieces: int) -> None: ...
    def step(self, done: int, steps: int) -> None: ...


@pytest.mark.parametrize("action", SafetyAction)
def test_a_chain_goes_on_after_a_safety_step_unless_it_blocks(action: SafetyAction) -> None:
    steps = (
        CropStep(0, 0, 100, 80),
        SafetyStep("p", policy(action)),
        ResizeStep(50, 40),
    )
    heard: list[SafetyVerdict] = []
    chain = Executor(NoNetworks(), SURE)
    if action is SafetyAction.BLOCK:
        with pytest.raises(Withheld) as withheld:
            chain.run(CANVAS, steps, Quiet(), heard.append)
        assert [withheld.value.verdict] == heard
    else:
        assert chain.run(CANVAS, steps, Quiet(), heard.append).size == (50, 40)
    assert [each.action for each in heard] == [action]


@pytest.mark.parametrize("failure", ClassifierFailure)
def test_a_classifier_that_fails_decides_as_the_policy_says(failure: ClassifierFailure) -> None:
    judged = apply(CANVAS, policy(SafetyAction.WARN, failure), BROKEN)
    assert judged.verdict.classifier_failed
    blocked = failure is ClassifierFailure.BLOCK
    assert (judged.canvas is None) is blocked
    expected = SafetyAction.BLOCK if blocked else SafetyAction.ALLOW
    assert judged.verdict.action is expected


@pytest.mark.parametrize("size", [(240, 160), (160, 240), (1024, 1024), (3000, 40), (9, 9)])
def test_detail_is_gone_at_every_size(size: tuple[int, int]) -> None:
    """Two pictures that differ in detail alone come out alike, level by level."""
    width, height = size
    plain = np.full((height, width, 3), 128, np.uint8)
    fine = plain.copy()
    fine[(np.indices((height, width)).sum(0) % 2).astype(bool)] = 0
    fine[~(np.indices((height, width)).sum(0) % 2).astype(bool)] = 255
    spread = blurred(fine).astype(int)
    if min(size) > 16:
        assert abs(spread - 128).max() <= 3
    assert (blurred(plain) == 128).all()


def test_what_is_left_of_a_picture_are_a_few_averages() -> None:
    """Its finer half of frequencies holds next to nothing of what it held."""

    def finer(pixels: Pixels) -> float:
        spectrum = np.abs(np.fft.rfft2(pixels.mean(2))) ** 2
        rows = np.abs(np.fft.fftfreq(pixels.shape[0])) * pixels.shape[0]
        columns = np.fft.rfftfreq(pixels.shape[1]) * pixels.shape[1]
        beyond = np.maximum.outer(rows, columns) > 16
        return float(spectrum[beyond].sum())

    pixels = _scene()
    assert finer(blurred(pixels)) < 0.002 * finer(pixels)
