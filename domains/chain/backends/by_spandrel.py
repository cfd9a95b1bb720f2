"""Networks of architectures that are not built in, by the library spandrel.

Only what is in a safetensors file reaches it: it is given tensors and never a path. It needs
torchvision, and is there where the extra `[upscale]` is installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from domains.errors import FailedPrecondition
from domains.model.backends.file_bytes import OpenBytes
from domains.model.backends.library_errors import blamed_on
from domains.model.backends.model_plan import WeightFile
from domains.model.backends.weights import read_tensors


def build(
    file: WeightFile,
    component: str,
    missing: FailedPrecondition,
    unknown: Callable[[str], FailedPrecondition],
    *,
    on_bytes: Callable[[int], None],
    open_bytes: OpenBytes,
) -> Any:
    """Have spandrel build what a file's tensors describe.

    Args:
        file: With its checked header.
        component: What it is called in messages.
        missing: The error where spandrel is not installed.
        unknown: Makes the error of why the network cannot be used.
        on_bytes: Called as bytes are read, with their number; may raise to stop.
        open_bytes: Where the file's bytes come from.

    Returns:
        spandrel's description of a network that makes pictures of pictures; called with one
        of 0 to 1 it gives one of 0 to 1.

    Raises:
        FailedPrecondition: `missing`; `unknown`, where spandrel does not know the
            architecture or builds something else; MODEL_CONFIG_INVALID where it fails over
            the tensors; as `read_tensors`.
    """
    try:
        spandrel: Any = importlib.import_module("spandrel")
    except ImportError as error:
        raise missing from error
    _with_more_architectures()
    tensors = {
        entry.name: tensor.clone()
        for entry, tensor in read_tensors(
            file, file.header.tensors, on_bytes=on_bytes, open_bytes=open_bytes
        )
    }
    with blamed_on(component):
        try:
            built = spandrel.ModelLoader(device="cpu").load_from_state_dict(tensors)
        except spandrel.UnsupportedModelError as error:
            raise unknown("spandrel knows no such architecture") from error
    if not isinstance(built, spandrel.ImageModelDescriptor):
        raise unknown("it does not make pictures of pictures")
    return built


def _with_more_architectures() -> None:
    """Those whose licences keep them out of spandrel itself, where somebody installed them."""
    try:
        more: Any = importlib.import_module("spandrel_extra_arches")
    except ImportError:
        return
    more.install(ignore_duplicates=True)
