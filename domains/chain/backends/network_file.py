"""A chain's network in its file: whether it is one, and its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from domains.device.backends import faults
from domains.errors import FailedPrecondition, Reason
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.file_bytes import OpenBytes
from domains.model.backends.file_recognition import recognise_file
from domains.model.backends.model_plan import WeightFile
from domains.model.backends.original_config import OriginalConfig
from domains.model.backends.safetensors_header import read_header
from domains.model.backends.weights import read_tensors
from domains.model.types import ModelType
from domains.values import ModelPlace


def open_network(place: ModelPlace, wanted: ModelType, noun: str) -> tuple[WeightFile, str]:
    """A network's file with its checked header, and the kind of its architecture.

    Args:
        place: A safetensors file.
        wanted: What it must be.
        noun: What that is called in messages.

    Raises:
        FailedPrecondition: As `read_header`; MODEL_INCOMPATIBLE for what is something else.
        PathOutsideRoot: It is a link that leads outside its root.
        OSError: The machine cannot read it at the moment.
    """
    files = ConfinedFiles(place)
    file = WeightFile(files, "", read_header(files))
    found = recognise_file(file.header, OriginalConfig())
    if found.type is not wanted:
        kind = found.type.value if found.type else "model of unknown type"
        raise FailedPrecondition(
            f"The model is a {kind} and no {noun}; choose another one.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"type": kind},
        )
    return file, found.kind


def read_weights(
    file: WeightFile,
    names: Mapping[str, str],
    noun: str,
    *,
    on_bytes: Callable[[int], None],
    open_bytes: OpenBytes,
) -> dict[str, torch.Tensor]:
    """Weights in float32 by the network's names, on the processor.

    Args:
        file: With its checked header.
        names: The file's name of each by the network's.
        noun: What the network is called in messages.
        on_bytes: Called as bytes are read, with their number; may raise to stop.
        open_bytes: Where the file's bytes come from.

    Raises:
        FailedPrecondition: MODEL_NON_FINITE for weights that are no numbers; as
            `read_tensors`.
    """
    new = {old: name for name, old in names.items()}
    entries = [entry for entry in file.header.tensors if entry.name in new]
    tensors: dict[str, torch.Tensor] = {}
    for entry, tensor in read_tensors(file, entries, on_bytes=on_bytes, open_bytes=open_bytes):
        weights = tensor.to(torch.float32, copy=True)
        if not bool(weights.isfinite().all()):
            raise FailedPrecondition(
                f"The {noun}'s {entry.name} holds what is no number; fetch it again.",
                reason=Reason.MODEL_NON_FINITE,
                metadata={"tensor": entry.name},
            )
        tensors[new[entry.name]] = weights
    return tensors


@contextmanager
def shortages_told(device: torch.device, advice: str) -> Iterator[None]:
    """What runs out of memory raises what clients are told of that.

    Args:
        device: Whose memory it is.
        advice: What to do about it.

    Raises:
        ResourceExhausted: DEVICE_OUT_OF_MEMORY or HOST_OUT_OF_MEMORY.
    """
    try:
        yield
    except Exception as error:
        shortage = faults.domain_error(error, device, advice=advice)
        if shortage is None:
            raise
        faults.drop_frames(error)
        raise shortage from error
