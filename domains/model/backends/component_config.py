"""The configuration files of a model folder, read with bounds on every number.

Whatever its key means, every value is of bounded size; the keys that size something are
also held against the bounds of what the file configures.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Protocol

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.bounds import Config, ConfigBounds
from domains.model.backends.families.schedulers import MAX_TRAIN_TIMESTEPS

MAX_CONFIG_BYTES = 1 << 20
_MAX_SHARD_INDEX_BYTES = 8 << 20
_MAX_SHARDS = 256
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.safetensors")
_MAX_DEPTH = 4
_MAX_LIST = 64
_MAX_TEXT = 512
_MAX_INTEGER = 1 << 24
# Libraries write these as their way to say "no limit".
_ENDLESS = frozenset({"lambda_min_clipped", "max_len", "model_max_length"})


class ConfigFiles(Protocol):
    """Configurations by the names that they have in a model folder: those of one that lies on
    disk, or those that a single file has in its header."""

    def has_file(self, name: str) -> bool:
        """Whether there is a file of that name."""
        ...

    def has_folder(self, name: str = "") -> bool:
        """Whether there is a folder of that name."""
        ...

    def read(self, name: str, most: int) -> bytes:
        """A file's bytes; of one with more than `most`, as many and one more.

        Raises:
            FailedPrecondition: MODEL_INCOMPLETE, where there is no such file.
        """
        ...


def read_config(files: ConfigFiles, called: str) -> Config:
    """Read one JSON object of at most 1 MiB.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE when there is no such file,
            MODEL_CONFIG_INVALID when it is too large, not JSON, or holds a number,
            text or list beyond any sensible bound.
    """
    parsed = _read_object(files, called, MAX_CONFIG_BYTES)
    _check_bounds(parsed, called, "", 0)
    return parsed


def read_shard_names(files: ConfigFiles, called: str) -> list[str]:
    """The weight files that an index of a sharded network lists, each a plain name.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE or MODEL_CONFIG_INVALID.
    """
    places = _read_object(files, called, _MAX_SHARD_INDEX_BYTES).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise invalid(called, "does not list its weight files")
    names = {name for name in places.values() if isinstance(name, str)}
    if len(names) > _MAX_SHARDS or any(not _SHARD_NAME.fullmatch(name) for name in names):
        raise invalid(called, "lists weight files by unsafe names")
    return sorted(names)


def check_config(config: Mapping[str, Any], bounds: ConfigBounds, *, called: str) -> None:
    """Refuse a configuration that is not within bounds; `called` names its file.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
    """
    problem = bounds.problem(config)
    if problem:
        raise invalid(called, problem)


def read_limited(files: ConfigFiles, called: str, limit: int) -> bytes:
    """The bytes of a file of at most `limit` bytes.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE or MODEL_CONFIG_INVALID.
    """
    raw = files.read(called, limit)
    if len(raw) > limit:
        raise invalid(called, "is too large")
    return raw


def invalid(called: str, what: str) -> FailedPrecondition:
    """MODEL_CONFIG_INVALID: what is wrong with a file, as the rest of a sentence."""
    component = called.partition("/")[0]
    return FailedPrecondition(
        f"The model's {called} {what}; correct the file or fetch the model again.",
        reason=Reason.MODEL_CONFIG_INVALID,
        metadata={"file": called} | ({} if "." in component else {"component": component}),
    )


def _read_object(files: ConfigFiles, called: str, limit: int) -> Config:
    try:
        parsed = json.loads(read_limited(files, called, limit).decode("utf-8"))
    except (ValueError, RecursionError):
        raise invalid(called, "is not JSON") from None
    if not isinstance(parsed, dict):
        raise invalid(called, "is not an object")
    return parsed


def _check_bounds(value: Any, called: str, key: str, depth: int) -> None:
    """Bound depth, length and size of everything, whatever its key means."""
    if depth > _MAX_DEPTH:
        raise invalid(called, "is nested too deeply")
    if isinstance(value, dict):
        if len(value) > 4 * _MAX_LIST:
            raise invalid(called, "has too many keys")
        for name, item in value.items():
            _check_bounds(item, called, name, depth + 1)
    elif isinstance(value, list):
        if len(value) > (MAX_TRAIN_TIMESTEPS if key == "trained_betas" else _MAX_LIST):
            raise invalid(called, "has a list that is too long")
        for item in value:
            _check_bounds(item, called, key, depth + 1)
    elif isinstance(value, str):
        if len(value) > _MAX_TEXT:
            raise invalid(called, "has a text that is too long")
    elif isinstance(value, float):
        if not math.isfinite(value) and (math.isnan(value) or key not in _ENDLESS):
            raise invalid(called, "has a number that is not finite")
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER and key not in _ENDLESS:
        raise invalid(called, "has a number that is too large")
