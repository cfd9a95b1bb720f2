"""Upscalers of architectures that are not built in; see `by_spandrel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from domains.chain.backends.by_spandrel import build
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.errors import FailedPrecondition, Reason
from domains.model.backends.file_bytes import OpenBytes
from domains.model.backends.model_plan import WeightFile
from domains.model.backends.upscalers import of_another_kind
from domains.model.core.enlarging import FOREIGN_NUMBERS_PER_PIXEL


def load_foreign(
    file: WeightFile,
    kind: str,
    device: torch.device,
    data_type: torch.dtype,
    *,
    on_bytes: Callable[[int], None],
    open_bytes: OpenBytes,
) -> Upscaler:
    """Have spandrel build what a file's tensors describe.

    Args:
        file: With its checked header.
        kind: What recognition says it is.
        device: Where it will run.
        data_type: In which it computes where the architecture can; otherwise float32.
        on_bytes: Called as bytes are read, with their number; may raise to stop.
        open_bytes: Where the file's bytes come from.

    Raises:
        FailedPrecondition: MODEL_INCOMPATIBLE where spandrel is not installed, does not know
            the architecture, or what it builds makes no larger pictures of pictures;
            MODEL_CONFIG_INVALID where it fails over the tensors; as `read_tensors`.
    """
    built = build(
        file,
        "upscaler",
        of_another_kind(kind),
        lambda why: _unknown(kind, why),
        on_bytes=on_bytes,
        open_bytes=open_bytes,
    )
    channels = (built.input_channels, built.output_channels)
    if channels not in ((3, 3), (1, 1)):
        raise _unknown(kind, "it does not make larger pictures of pictures")
    computes = {torch.float16: built.supports_half, torch.bfloat16: built.supports_bfloat16}
    chosen = data_type if computes.get(data_type, True) else torch.float32
    network = _Described(built).to(device, chosen).eval().requires_grad_(False)
    return Upscaler(
        network=network,
        architecture=str(built.architecture.name),
        factor=int(built.scale),
        channels=channels[0],
        unit=max(1, int(built.size_requirements.multiple_of)),
        numbers_per_pixel=FOREIGN_NUMBERS_PER_PIXEL,
        device=device,
        data_type=chosen,
        channels_last=False,
    )


class _Described(nn.Module):
    """Calls a network as the library does, which pads pictures that are too small for it."""

    def __init__(self, built: Any) -> None:
        super().__init__()
        self.model = built.model
        self._call = built

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        enlarged: torch.Tensor = self._call(pixels)
        return enlarged


def _unknown(kind: str, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"The upscaler cannot be used: {why}. Use another one.",
        reason=Reason.MODEL_INCOMPATIBLE,
        metadata={"kind": kind},
    )
