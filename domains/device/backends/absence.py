"""Why a kind of device is not there, as its probe learnt it."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


class NotThere(Exception):
    """No device of the kind can be found; the message completes "cuda: ..."."""


def library(name: str) -> Any:
    """Import a library that drives devices.

    Raises:
        NotThere: It is not installed, or its native parts cannot be loaded.
    """
    if importlib.util.find_spec(name) is None:
        raise NotThere(f"{name} is not installed for the interpreter of this kind")
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise NotThere(f"{name} cannot be loaded: {error}") from error
