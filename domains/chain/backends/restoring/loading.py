"""Face restorers from their files onto a device, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from domains.chain.backends.by_spandrel import build
from domains.chain.backends.network_file import open_network, read_weights, shortages_told
from domains.chain.backends.restoring.gfpgan import Gfpgan
from domains.chain.backends.restoring.restorer import EDGE, Restorer
from domains.errors import FailedPrecondition, Reason
from domains.model.backends.file_bytes import OpenBytes, open_file
from domains.model.backends.model_plan import WeightFile
from domains.model.backends.restorers import KINDS, design_of, of_another_kind
from domains.model.types import ModelType
from domains.values import ModelPlace

ADVICE = "use another device"
"""What to do about a lack of memory."""


def load_restorer(
    place: ModelPlace,
    device: torch.device,
    *,
    on_bytes: Callable[[int], None] = lambda _count: None,
    open_bytes: OpenBytes = open_file,
) -> Restorer:
    """Read a face restorer.

    Args:
        place: A safetensors file.
        device: Where it will run.
        on_bytes: Called as bytes are read, with their number; may raise to stop.
        open_bytes: Where the file's bytes come from.

    Raises:
        FailedPrecondition: As `read_header`, `design_of` and `read_tensors`;
            MODEL_INCOMPATIBLE for what is no face restorer, and for one of a kind that is not
            built in where spandrel is not installed or does not know it; MODEL_NON_FINITE
            for weights that are no numbers.
        PathOutsideRoot: It is a link that leads outside its root.
        ResourceExhausted: DEVICE_OUT_OF_MEMORY or HOST_OUT_OF_MEMORY.
        OSError: The machine cannot read it at the moment.
    """
    file, kind = open_network(place, ModelType.FACE_RESTORER, "face restorer")
    load = _built_in if kind in KINDS else _foreign
    with shortages_told(device, ADVICE):
        network = load(file, kind, on_bytes, open_bytes)
        network = network.to(device, torch.float32).eval().requires_grad_(False)
    return Restorer(network, kind, device)


def _built_in(
    file: WeightFile, kind: str, on_bytes: Callable[[int], None], open_bytes: OpenBytes
) -> nn.Module:
    design = design_of(file.header)
    tensors = read_weights(
        file, design.names, "restorer", on_bytes=on_bytes, open_bytes=open_bytes
    )
    with torch.device("meta"):
        network = Gfpgan(widths=design.widths, style=design.style, mapping=design.mapping)
    network.load_state_dict(tensors, assign=True)
    return network


def _foreign(
    file: WeightFile, kind: str, on_bytes: Callable[[int], None], open_bytes: OpenBytes
) -> nn.Module:
    def unknown(why: str) -> FailedPrecondition:
        return FailedPrecondition(
            f"The face restorer cannot be used: {why}. Use another one.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"kind": kind},
        )

    built = build(
        file,
        "face restorer",
        of_another_kind(kind),
        unknown,
        on_bytes=on_bytes,
        open_bytes=open_bytes,
    )
    if (built.input_channels, built.output_channels, built.scale) != (3, 3, 1):
        raise unknown(f"it does not make squares of {EDGE} pixels of such")
    return _Described(built)


class _Described(nn.Module):
    """Calls a network as the library does."""

    def __init__(self, built: Any) -> None:
        super().__init__()
        self.model = built.model
        self._call = built

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        restored: torch.Tensor = self._call(faces)
        return restored
