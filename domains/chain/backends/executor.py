"""A chain done on a picture, step after step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.classifiers import Classifiers, of_this_process
from domains.chain.backends.room import check_host
from domains.chain.backends.safeguard import Withheld, apply
from domains.chain.backends.steps.background import remove_background
from domains.chain.backends.steps.bands import Between
from domains.chain.backends.steps.color import color
from domains.chain.backends.steps.crop import crop
from domains.chain.backends.steps.deblur import deblur
from domains.chain.backends.steps.denoise import denoise
from domains.chain.backends.steps.lut import lut
from domains.chain.backends.steps.non_local_means import non_local_means
from domains.chain.backends.steps.pad import pad
from domains.chain.backends.steps.resize import resize
from domains.chain.backends.steps.rotate import rotate
from domains.chain.backends.steps.sharpen import sharpen
from domains.chain.backends.steps.watermark import watermark
from domains.chain.jobs.room import step_bytes
from domains.chain.types import (
    ColorStep,
    CropStep,
    DeblurStep,
    DenoiseMethod,
    DenoiseStep,
    FaceRestoreStep,
    LutStep,
    PadStep,
    RemoveBackgroundStep,
    ResizeStep,
    RotateStep,
    SafetyStep,
    SharpenStep,
    Step,
    UpscaleStep,
    WatermarkStep,
)
from domains.safety import SafetyVerdict


def _denoised(canvas: Canvas, step: DenoiseStep, between: Between) -> Canvas:
    """By the step's method."""
    bilateral = step.method is DenoiseMethod.BILATERAL
    return (denoise if bilateral else non_local_means)(canvas, step, between)


_CLASSICAL: Mapping[type[Step], Callable[[Canvas, Any, Between], Canvas]] = {
    SharpenStep: sharpen,
    DenoiseStep: _denoised,
    ColorStep: color,
    ResizeStep: resize,
    CropStep: crop,
    WatermarkStep: watermark,
    RotateStep: rotate,
    PadStep: pad,
    LutStep: lut,
    DeblurStep: deblur,
    RemoveBackgroundStep: remove_background,
}


def _unheard(verdict: SafetyVerdict) -> None:
    """Nobody asked what safety steps say."""


class Networks(Protocol):
    """Does steps with networks that lie on the device."""

    def enlarge(self, canvas: Canvas, step: UpscaleStep, between: Between) -> Canvas:
        """The picture after the step.

        Raises:
            DomainError: The upscaler cannot be loaded, or memory does not suffice.
        """
        ...

    def restore(self, canvas: Canvas, step: FaceRestoreStep, between: Between) -> Canvas:
        """The picture after the step.

        Raises:
            DomainError: The restorer cannot be loaded, or memory does not suffice.
        """
        ...


class Telling(Protocol):
    """Hears how a chain gets on; each may raise to stop it."""

    def piece(self, done: int, pieces: int) -> None:
        """So many pieces of the step at work are done."""
        ...

    def step(self, done: int, steps: int) -> None:
        """So many steps are done."""
        ...


class Executor:
    """Does chains.

    Args:
        networks: Does the steps that need a model's network.
        classifiers: Score pictures for safety steps; those of this process if None.
    """

    def __init__(self, networks: Networks, classifiers: Classifiers | None = None) -> None:
        self._networks = networks
        self._classifiers = classifiers or of_this_process()

    def run(
        self,
        canvas: Canvas,
        steps: Sequence[Step],
        telling: Telling,
        judged: Callable[[SafetyVerdict], None] = _unheard,
    ) -> Canvas:
        """The picture after all steps; without any it is the same.

        Args:
            canvas: The picture.
            steps: Checked against its size, everything that they name looked up.
            telling: Hears of each piece and each step.
            judged: Hears of the verdict of each safety step.

        Raises:
            Withheld: A safety step blocks it; its verdict was heard as well.
            ResourceExhausted: HOST_OUT_OF_MEMORY, before a step that does not fit.
            DomainError: As the networks, `read_canvas` of a mark, or `telling` raises it.
        """
        for done, step in enumerate(steps, start=1):
            check_host(step_bytes(step, canvas.size, alpha=canvas.alpha is not None))
            if isinstance(step, UpscaleStep):
                canvas = self._networks.enlarge(canvas, step, telling.piece)
            elif isinstance(step, FaceRestoreStep):
                canvas = self._networks.restore(canvas, step, telling.piece)
            elif isinstance(step, SafetyStep):
                assert step.policy is not None, "it has been looked up"
                found = apply(canvas, step.policy, self._classifiers)
                judged(found.verdict)
                if found.canvas is None:
                    telling.step(done, len(steps))
                    raise Withheld(found.verdict)
                canvas = found.canvas
            else:
                canvas = _CLASSICAL[type(step)](canvas, step, telling.piece)
            telling.step(done, len(steps))
        return canvas
