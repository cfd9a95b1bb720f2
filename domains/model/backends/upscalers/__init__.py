"""What the tensors of an upscaler's file say of its network: one module for each architecture.

Nothing but a header is read, in plain Python. The networks themselves are in
`domains/chain/backends/upscaling`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.recognition.enlargers import wrapper_of
from domains.model.backends.recognition.tensors import Shape, Tensors
from domains.model.backends.safetensors_header import Header
from domains.model.backends.stored_weights import check_type
from domains.model.backends.upscalers import compact, rrdb
from domains.model.backends.upscalers.design import UPSCALER, UpscalerDesign

__all__ = ["KINDS", "UpscalerDesign", "design_of", "of_another_kind"]

_READERS: Mapping[str, Callable[[Mapping[str, Shape]], UpscalerDesign]] = {
    "Compact": compact.read,
    "RRDB": rrdb.read,
}
KINDS = tuple(_READERS)
"""Kinds of upscalers, as recognition calls them, that need nothing that is not here."""


def design_of(header: Header, kind: str) -> UpscalerDesign:
    """The network that a file of one of `KINDS` holds.

    Args:
        header: The file's.
        kind: What recognition says it is.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE for tensors that are missing or that no layer has,
            MODEL_SHAPE_INVALID for one of another shape, MODEL_DTYPE_UNSUPPORTED for one that
            is no floating-point number, MODEL_INCOMPATIBLE for a network that does not make
            larger pictures of pictures.
    """
    tensors = Tensors.of(header)
    prefix = wrapper_of(tensors)
    design = _READERS[kind](tensors.below(prefix).shapes)
    design = design.behind(prefix)
    used = set(design.names.values())
    for entry in header.tensors:
        if entry.name in used:
            check_type(UPSCALER, entry)
    return design


def of_another_kind(kind: str) -> FailedPrecondition:
    """MODEL_INCOMPATIBLE: an upscaler of none of `KINDS`."""
    return FailedPrecondition(
        f"This version enlarges with upscalers of the kinds {', '.join(KINDS)} by itself; one "
        f"of kind {kind or 'unknown'} needs the package spandrel: install the extra [upscale].",
        reason=Reason.MODEL_INCOMPATIBLE,
        metadata={"kind": kind},
    )
