"""What the tensors of a face restorer's file say of its network.

Nothing but a header is read, in plain Python. The network itself is in
`domains/chain/backends/restoring`.
"""

from __future__ import annotations

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.recognition.enlargers import wrapper_of
from domains.model.backends.recognition.tensors import Tensors
from domains.model.backends.restorers import gfpgan
from domains.model.backends.restorers.gfpgan import RESTORER, GfpganDesign
from domains.model.backends.safetensors_header import Header
from domains.model.backends.stored_weights import check_type

__all__ = ["KINDS", "GfpganDesign", "design_of", "of_another_kind"]

KINDS = ("GFPGAN",)
"""Kinds of face restorers, as recognition calls them, that need nothing that is not here."""


def design_of(header: Header) -> GfpganDesign:
    """The network that a file of one of `KINDS` holds.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE for tensors that are missing or that no layer has,
            MODEL_SHAPE_INVALID for one of another shape, MODEL_DTYPE_UNSUPPORTED for one that
            is no floating-point number.
    """
    tensors = Tensors.of(header)
    prefix = wrapper_of(tensors)
    design = gfpgan.read(tensors.below(prefix).shapes).behind(prefix)
    used = set(design.names.values())
    for entry in header.tensors:
        if entry.name in used:
            check_type(RESTORER, entry)
    return design


def of_another_kind(kind: str) -> FailedPrecondition:
    """MODEL_INCOMPATIBLE: a face restorer of none of `KINDS`."""
    return FailedPrecondition(
        f"This version restores faces with {', '.join(KINDS)} by itself; a restorer of kind "
        f"{kind or 'unknown'} needs the package spandrel: install the extra [upscale].",
        reason=Reason.MODEL_INCOMPATIBLE,
        metadata={"kind": kind},
    )
