"""Passing a configuration file to a constructor without passing what it does not know."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def accepted_by(cls: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `config` that are named parameters of the constructor of `cls`."""
    named = named_parameters(cls)
    return {key: value for key, value in config.items() if key in named}


@functools.cache
def named_parameters(call: Callable[..., Any]) -> frozenset[str]:
    """Their names, of a class or function that stays; looking at one takes a while."""
    parameters = inspect.signature(call).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD)
