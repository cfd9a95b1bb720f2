"""A throw-away step and decoding, so that the first picture is as fast as the second."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends import one_run
from domains.inference.backends.loaded import Loaded
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.step_trial import StepTrial
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted


def warm_up(model: Loaded, context: JobContext) -> None:
    """Draw one step of a picture of the model's native size, and decode it; run the networks of
    what cannot draw alone once each, at the smallest size.

    The kernels of that size are chosen, libraries are initialised and the allocator has its
    blocks; a model that computes in the fastest numbers has them measured.

    Args:
        model: Loaded.
        context: Hears of it and may stop it.

    Raises:
        FailedPrecondition: NON_FINITE_OUTPUT.
        Exception: As torch raises it; DomainError as `decode_pixels`.
    """
    if isinstance(model, LoadedModel) and model.plan.draws_from_text:
        trial = StepTrial(model)
        trial.settle_numerics(context)
        trial.measure(context, steps=1)
        return
    context.emit(PhaseStarted(Phase.MEASURING))
    for name in model.networks:
        context.check_stop()
        outputs = _outputs(model, name)
        if not _finite(outputs) and name == "vae" and model.widen_vae():
            outputs = _outputs(model, name)
        if not _finite(outputs):
            raise FailedPrecondition(
                f"The model's {name} produced numbers that are not finite; get it again, or "
                "another.",
                reason=Reason.NON_FINITE_OUTPUT,
                metadata={"component": name},
            )


def _outputs(model: Loaded, name: str) -> tuple[torch.Tensor, ...]:
    """What one run of a network gives."""
    network = model.networks[name]
    run = one_run.LONE.get(name)
    if run is not None:
        return run(network)
    if name == "vae":
        image = one_run.decode_once(network, model.plan_config(name))
        return image, one_run.encode_once(network, image)
    if name == "unet":
        unet = model.plan_config(name)
        edge = one_run.PIXELS // 8
        return (one_run.run_unet(network, unet, (unet["in_channels"], edge, edge)),)
    return one_run.run_text_encoder(network)


def _finite(outputs: Iterable[torch.Tensor]) -> bool:
    return all(bool(torch.isfinite(output).all()) for output in outputs)
