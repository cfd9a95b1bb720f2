"""The configuration files of a model folder, read with bounds on every number.

Whatever its key means, every value is of bounded size; the keys that size something are
also held against the bounds of what the file configures.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.bounds import Config, ConfigBounds
from domains.model.backends.families.components import MAX_TRAIN_TIMESTEPS
from domains.model.backends.model_files import ModelFiles

MAX_CONFIG_BYTES = 1 << 20
_MAX_SHARD_INDEX_BYTES = 8 << 20
_MAX_SHARDS = 256
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.safetensors")
_MAX_DEPTH = 4
_MAX_LIST = 64
_MAX_TEXT = 512
_MAX_INTEGER = 1 << 24


def read_config(files: ModelFiles, name: str) -> Config:
    """Read one JSON object of at most 1 MiB.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE when there is no such file to be read,
            MODEL_CONFIG_INVALID when it is too large, not JSON, or holds a number,
            text or list beyond any sensible bound.
    """
    parsed = _read_object(files, name, MAX_CONFIG_BYTES)
    _check_bounds(parsed, name, "", 0)
    return parsed


def read_shard_names(files: ModelFiles, called: str) -> list[str]:
    """The weight files that an index of a sharded network lists, each a plain name.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE or MODEL_CONFIG_INVALID.
    """
    places = _read_object(files, called, _MAX_SHARD_INDEX_BYTES).get("weight_map")
    if not isinstance(places, dict) or not places:
        _refuse(called, "does not list its weight files")
    names = {name for name in places.values() if isinstance(name, str)}
    if len(names) > _MAX_SHARDS or any(not _SHARD_NAME.fullmatch(name) for name in names):
        _refuse(called, "lists weight files by unsafe names")
    return sorted(names)


def check_config(config: Mapping[str, Any], bounds: ConfigBounds, *, called: str) -> None:
    """Refuse a configuration that is not within bounds; `called` names its file.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
    """
    problem = bounds.problem(config)
    if problem:
        _refuse(called, problem)


def _read_object(files: ModelFiles, called: str, limit: int) -> Config:
    raw = files.read(called, limit)
    if len(raw) > limit:
        _refuse(called, "is too large")
    try:
        parsed = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        _refuse(called, "cannot be read")
    if not isinstance(parsed, dict):
        _refuse(called, "is not an object")
    return parsed


def _refuse(called: str, what: str) -> NoReturn:
    raise FailedPrecondition(
        f"The model's {called} {what}.",
        reason=Reason.MODEL_CONFIG_INVALID,
        metadata={"file": called},
    )


def _check_bounds(value: Any, called: str, key: str, depth: int) -> None:
    """Bound depth, length and size of everything, whatever its key means."""
    if depth > _MAX_DEPTH:
        _refuse(called, "is nested too deeply")
    if isinstance(value, dict):
        if len(value) > 4 * _MAX_LIST:
            _refuse(called, "has too many keys")
        for name, item in value.items():
            _check_bounds(item, called, name, depth + 1)
    elif isinstance(value, list):
        if len(value) > (MAX_TRAIN_TIMESTEPS if key == "trained_betas" else _MAX_LIST):
            _refuse(called, "has a list that is too long")
        for item in value:
            _check_bounds(item, called, key, depth + 1)
    elif isinstance(value, str):
        if len(value) > _MAX_TEXT:
            _refuse(called, "has a text that is too long")
    elif isinstance(value, float):
        if not math.isfinite(value):
            _refuse(called, "has a number that is not finite")
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER:
        _refuse(called, "has a number that is too large")
