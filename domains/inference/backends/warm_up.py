"""A throw-away step and decoding, so that the first picture is as fast as the second."""

from __future__ import annotations

from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.step_trial import StepTrial
from domains.session.jobs import JobContext


def warm_up(model: LoadedModel, context: JobContext) -> None:
    """Draw one step of a picture of the model's native size, and decode it.

    The kernels of that size are chosen, libraries are initialised and the allocator has its
    blocks; a model that computes in the fastest numbers has them measured.

    Args:
        model: Loaded.
        context: Hears of it and may stop it.

    Raises:
        Exception: As torch raises it; DomainError as `decode_pixels`.
    """
    trial = StepTrial(model)
    trial.settle_numerics(context)
    trial.measure(context, steps=1)
