"""Upscalers from their files onto a device, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from domains.chain.backends.network_file import open_network, read_weights, shortages_told
from domains.chain.backends.upscaling.compact import Compact
from domains.chain.backends.upscaling.foreign import load_foreign
from domains.chain.backends.upscaling.rrdb import Rrdb
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.device.backends.torch_gauge import in_main_memory
from domains.model.backends.file_bytes import OpenBytes, open_file
from domains.model.backends.upscalers import KINDS, UpscalerDesign, design_of
from domains.model.types import ModelType
from domains.values import ModelPlace

_NETWORKS: Mapping[str, Callable[..., nn.Module]] = {"Compact": Compact, "RRDB": Rrdb}
# Where convolutions in float16 are dependable in this layout, and faster.
_CHANNELS_LAST = ("cuda", "xpu")
_ADVICE = "use a smaller upscaler or another device"


def load_upscaler(
    place: ModelPlace,
    device: torch.device,
    data_type: torch.dtype | None = None,
    *,
    on_bytes: Callable[[int], None] = lambda _count: None,
    open_bytes: OpenBytes = open_file,
) -> Upscaler:
    """Read an upscaler.

    Args:
        place: A safetensors file.
        device: Where it will run.
        data_type: In which it computes; None for float32 on the processor and float16
            elsewhere. Weights that float16 cannot hold make it float32.
        on_bytes: Called as bytes are read, with their number; may raise to stop.
        open_bytes: Where the file's bytes come from.

    Raises:
        FailedPrecondition: As `read_header`, `design_of` and `read_tensors`;
            MODEL_INCOMPATIBLE for what is no upscaler, and for one of a kind that is not built
            in where spandrel is not installed or does not know it; MODEL_NON_FINITE for
            weights that are no numbers.
        PathOutsideRoot: It is a link that leads outside its root.
        ResourceExhausted: DEVICE_OUT_OF_MEMORY or HOST_OUT_OF_MEMORY.
        OSError: The machine cannot read it at the moment.
    """
    file, kind = open_network(place, ModelType.UPSCALER, "upscaler")
    wanted = data_type or (torch.float32 if in_main_memory(device) else torch.float16)
    with shortages_told(device, _ADVICE):
        if kind not in KINDS:
            return load_foreign(
                file, kind, device, wanted, on_bytes=on_bytes, open_bytes=open_bytes
            )
        design = design_of(file.header, kind)
        tensors = read_weights(
            file, design.names, "upscaler", on_bytes=on_bytes, open_bytes=open_bytes
        )
        return _on_device(design, tensors, device, _holding(tensors.values(), wanted))


def _holding(tensors: Iterable[torch.Tensor], data_type: torch.dtype) -> torch.dtype:
    """`data_type`, or float32 where a weight is too large for it."""
    most = torch.finfo(data_type).max
    fits = all(float(tensor.abs().max()) <= most for tensor in tensors)
    return data_type if fits else torch.float32


def _on_device(
    design: UpscalerDesign,
    tensors: Mapping[str, torch.Tensor],
    device: torch.device,
    data_type: torch.dtype,
) -> Upscaler:
    with torch.device("meta"):
        network = _NETWORKS[design.kind](**design.arguments)
    network.load_state_dict(tensors, assign=True)
    channels_last = data_type != torch.float32 and device.type in _CHANNELS_LAST
    network = network.to(device, data_type)
    if channels_last:
        for weight in network.parameters():
            if weight.dim() == 4:
                weight.data = weight.contiguous(memory_format=torch.channels_last)
    network.eval().requires_grad_(False)
    return Upscaler(
        network=network,
        architecture=design.kind,
        factor=design.factor,
        channels=design.channels,
        unit=design.unit,
        numbers_per_pixel=design.numbers_per_pixel,
        device=device,
        data_type=data_type,
        channels_last=channels_last,
    )
