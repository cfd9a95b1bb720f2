"""Compiled code for a UNet, kept only where it computes right and pays.

The blocks that a UNet repeats are compiled, not the whole of it: a minute's wait becomes
seconds, and a new picture size costs little.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from domains.inference.backends.device import synchronize

# Of the step; less is not worth a wait at every new picture size.
_LEAST_GAIN = 0.05
# Norm of the difference over the norm of the result without compiled code.
_MOST_DIFFERENCE = 2e-2
_REPEATS = 3

_log = logging.getLogger("deviceops.compilation")


def compile_if_it_pays(
    unet: nn.Module,
    predict: Callable[[], torch.Tensor],
    device: torch.device,
    *,
    check_stop: Callable[[], None],
    backend: str = "inductor",
) -> bool:
    """Compile `unet` in place and keep it so if it is right and at least 5 % faster.

    Args:
        unet: A diffusers network that names its repeated blocks.
        predict: Runs it on fixed input.
        device: Where it is.
        check_stop: Called around each run; what it raises passes through, the network
            being as before.
        backend: The compiler, as torch names it.

    Returns:
        Whether it is compiled now.
    """
    check_stop()
    plain = predict()
    before = _seconds(predict, device, check_stop)
    try:
        compiled = _compiled(unet, backend, predict, check_stop)
        if compiled is not None:
            difference = float((compiled - plain).norm() / plain.norm())
            after = _seconds(predict, device, check_stop)
            if difference <= _MOST_DIFFERENCE and after <= before * (1 - _LEAST_GAIN):
                return True
            _log.info(
                "compiled code was dropped: %.4f s against %.4f s, difference %.2g",
                *(after, before, difference),
            )
    except BaseException:
        undo(unet)
        raise
    undo(unet)
    return False


def is_compiled(unet: nn.Module) -> bool:
    """Whether `unet` runs as compiled code now."""
    return any(module._compiled_call_impl is not None for module in unet.modules())


@contextmanager
def without_compiled_code(unet: nn.Module) -> Iterator[None]:
    """Run `unet` without its compiled code inside."""
    compiled = {
        module: module._compiled_call_impl
        for module in unet.modules()
        if module._compiled_call_impl is not None
    }
    try:
        undo(unet)
        yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call


def undo(unet: nn.Module) -> None:
    """Run `unet` without compiled code again."""
    for module in unet.modules():
        module._compiled_call_impl = None


def _compiled(
    unet: Any,
    backend: str,
    predict: Callable[[], torch.Tensor],
    check_stop: Callable[[], None],
) -> torch.Tensor | None:
    """The first run, in which compilers work; None where they cannot."""
    check_stop()
    try:
        unet.compile_repeated_blocks(backend=backend)
        result = predict()
    except Exception as error:
        # Compilers fail in as many ways as there are machines; none is the caller's matter.
        _log.warning("this device's code cannot be compiled: %s", type(error).__name__)
        return None
    check_stop()
    return result


def _seconds(
    predict: Callable[[], torch.Tensor],
    device: torch.device,
    check_stop: Callable[[], None],
) -> float:
    shortest = float("inf")
    for _ in range(_REPEATS):
        check_stop()
        synchronize(device)
        start = time.perf_counter()
        predict()
        synchronize(device)
        shortest = min(shortest, time.perf_counter() - start)
    return shortest
