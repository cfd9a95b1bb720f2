"""Upscalers from their files onto a device, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from domains.chain.backends.upscaling.compact import Compact
from domains.chain.backends.upscaling.foreign import load_foreign
from domains.chain.backends.upscaling.rrdb import Rrdb
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.device.backends import faults
from domains.device.backends.torch_gauge import in_main_memory
from domains.errors import FailedPrecondition, Reason
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.file_bytes import OpenBytes, open_file
from domains.model.backends.file_recognition import recognise_file
from domains.model.backends.model_plan import WeightFile
from domains.model.backends.original_config import OriginalConfig
from domains.model.backends.safetensors_header import read_header
from domains.model.backends.upscalers import KINDS, UpscalerDesign, design_of
from domains.model.backends.weights import read_tensors
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
    files = ConfinedFiles(place)
    file = WeightFile(files, "", read_header(files))
    found = recognise_file(file.header, OriginalConfig())
    if found.type is not ModelType.UPSCALER:
        kind = found.type.value if found.type else "model of unknown type"
        raise FailedPrecondition(
            f"The model is a {kind} and no upscaler; choose another one.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"type": kind},
        )
    wanted = data_type or (torch.float32 if in_main_memory(device) else torch.float16)
    try:
        if found.kind not in KINDS:
            return load_foreign(
                file, found.kind, device, wanted, on_bytes=on_bytes, open_bytes=open_bytes
            )
        design = design_of(file.header, found.kind)
        tensors = _read(file, design, on_bytes, open_bytes)
        wanted = _holding(tensors.values(), wanted)
        return _on_device(design, tensors, device, wanted)
    except Exception as error:
        shortage = faults.domain_error(error, device, advice=_ADVICE)
        if shortage is None:
            raise
        faults.drop_frames(error)
        raise shortage from error


def _read(
    file: WeightFile,
    design: UpscalerDesign,
    on_bytes: Callable[[int], None],
    open_bytes: OpenBytes,
) -> dict[str, torch.Tensor]:
    """Its weights in float32 by the network's names, on the processor."""
    new = {old: name for name, old in design.names.items()}
    entries = [entry for entry in file.header.tensors if entry.name in new]
    tensors = {
        new[entry.name]: tensor.to(torch.float32, copy=True)
        for entry, tensor in read_tensors(
            file, entries, on_bytes=on_bytes, open_bytes=open_bytes
        )
    }
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise FailedPrecondition(
                f"The upscaler's {design.names[name]} holds what is no number; fetch it again.",
                reason=Reason.MODEL_NON_FINITE,
                metadata={"tensor": design.names[name]},
            )
    return tensors


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
