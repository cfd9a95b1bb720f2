"""The one stream of a process's work on a card.

Once kernels were launched in more than one stream of a process while its card had nothing else
to do, it takes a fifth of a microsecond longer from each to the next, for good and in every
stream, recorded or not (`bench.accelerator_recordings`). Recording needs a stream that is not
the default one, and launches a few kernels there; so all work is in that one.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from domains.device.backends.torch_gauge import backend_of


def settle_stream(device: torch.device) -> None:
    """What the calling thread asks of the device from here on is in the device's work stream.

    Threads that hand tensors to each other are to share it: between streams nothing waits.
    """
    stream = work_stream(device)
    if stream is not None:
        backend_of(device).set_stream(stream)


@functools.cache
def work_stream(device: torch.device) -> Any:
    """The stream; None where work cannot be recorded, and is in the default one."""
    backend = backend_of(device)
    return backend.Stream(device) if hasattr(backend, "CUDAGraph") else None
