"""What libraries raise while they work on what a model folder holds.

They raise whatever they like, down to plain `Exception` and the panics of compiled code.
Nothing that a folder holds is a fault of the server or of a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from domains.device.backends import faults
from domains.device.backends.liveness import computes
from domains.errors import DomainError, FailedPrecondition, Reason
from domains.shortages import shortage_of

_PROCESSOR = torch.device("cpu")


@contextmanager
def blamed_on(
    component: str, file: str = "", *, device: torch.device = _PROCESSOR
) -> Iterator[None]:
    """Turn what a library raises inside into MODEL_CONFIG_INVALID of a component.

    Whatever runs out, a library that is missing and a device that is lost stay what they are,
    and so do errors that have a kind already.

    Args:
        component: The folder of the part that the library works on.
        file: The file in it that decides, where it is one.
        device: Where the library computes.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID, with the error's class as `cause`: its
            text may quote a prompt or a path.
    """
    try:
        yield
    except DomainError:
        raise
    except BaseException as error:
        panicked = type(error).__module__ == "pyo3_runtime"
        if not panicked and not isinstance(error, Exception):
            raise
        if isinstance(error, ImportError) or shortage_of(error) is not None:
            raise
        if faults.fault_of(error, device) is not None or not computes(device):
            raise
        place = f"{component}/{file}" if file else component
        raise FailedPrecondition(
            f"The model's {place} holds something that cannot be used; correct it or fetch "
            "the model again.",
            reason=Reason.MODEL_CONFIG_INVALID,
            metadata={"component": component, "file": place, "cause": type(error).__name__},
        ) from error
