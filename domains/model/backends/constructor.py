"""Passing a configuration file to a constructor without passing what it does not know."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any


def accepted_by(cls: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `config` that are named parameters of the constructor of `cls`."""
    parameters = inspect.signature(cls).parameters.values()
    named = {p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    return {key: value for key, value in config.items() if key in named}
