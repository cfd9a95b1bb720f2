"""What differs between kinds of device, in one place.

Other code asks these functions for a capability and never compares a device's kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from domains.device.backends.torch_gauge import backend_of
from domains.heap import collect_and_trim
from domains.values import TensorDataType


@dataclass(frozen=True)
class Numerics:
    """How a network computes: element type and memory layout of its tensors."""

    data_type: torch.dtype
    channels_last: bool = False


@dataclass(frozen=True)
class Traits:
    """What a kind of device should compute in.

    `exact` is fixed, so that the same request gives the same bits on the same device;
    `candidates` are tried against each other when speed comes first. `trial_edge` is the
    greatest latent edge of such a trial: large enough to be typical, small enough to be
    quick there. `compiled` are those of UNet and VAE where compiled code may run for them:
    plain code's times do not tell which is fastest then.
    """

    exact: Numerics
    text_data_type: torch.dtype
    candidates: tuple[Numerics, ...]
    trial_edge: int
    vae_always_float32: bool = False
    compiled: tuple[Numerics, Numerics] | None = None


_CPU = Traits(
    exact=Numerics(torch.float32),
    text_data_type=torch.float32,
    candidates=(
        Numerics(torch.float32),
        Numerics(torch.float32, channels_last=True),
        Numerics(torch.bfloat16, channels_last=True),
    ),
    trial_edge=32,
)
_ACCELERATOR = Traits(
    exact=Numerics(torch.float16),
    text_data_type=torch.float16,
    candidates=(
        Numerics(torch.float16),
        Numerics(torch.float16, channels_last=True),
        Numerics(torch.bfloat16, channels_last=True),
    ),
    trial_edge=128,
    # Where channels lie innermost, convolutions need not turn their inputs; only plain code's
    # normalisations lose by it (bench/results/cuda-kernels.md).
    compiled=(
        Numerics(torch.float16, channels_last=True),
        Numerics(torch.bfloat16, channels_last=True),
    ),
)
# Neither bfloat16 nor other layouts are dependable here, and half-precision decoding is not.
_PLAIN_HALF = Traits(
    exact=Numerics(torch.float16),
    text_data_type=torch.float16,
    candidates=(Numerics(torch.float16),),
    trial_edge=64,
    vae_always_float32=True,
)
_TRAITS = {"cpu": _CPU, "mps": _PLAIN_HALF, "privateuseone": _PLAIN_HALF}

DATA_TYPES = {
    torch.float32: TensorDataType.FLOAT32,
    torch.float16: TensorDataType.FLOAT16,
    torch.bfloat16: TensorDataType.BFLOAT16,
}


def traits_of(device: torch.device) -> Traits:
    """What `device` should compute in."""
    return _TRAITS.get(device.type, _ACCELERATOR)


def data_type_of(data_type: torch.dtype) -> TensorDataType:
    """The domain's name of a torch element type that networks run in."""
    return DATA_TYPES[data_type]


def synchronize(device: torch.device) -> None:
    """Wait until everything queued on `device` is done; nothing where calls block."""
    backend = backend_of(device)
    if backend is not None and hasattr(backend, "synchronize"):
        backend.synchronize()


def release_memory(device: torch.device) -> None:
    """Give memory of dropped tensors back, also what the allocator keeps for reuse."""
    collect_and_trim()
    backend = backend_of(device)
    if backend is not None and hasattr(backend, "empty_cache"):
        backend.empty_cache()
