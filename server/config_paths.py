"""Paths as an operator sets them: how they are written, and whether they lead anywhere."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path


def absolute(path: Path) -> Path:
    """Where a path leads from the current folder, or from somebody's home.

    Raises:
        ValueError: It is no path that can be used and told.
    """
    try:
        str(path).encode()
        found = Path(os.path.abspath(path.expanduser()))
    except UnicodeEncodeError:
        # It goes into logs and answers, which are UTF-8.
        raise ValueError(f"{str(path)!a} is not UTF-8; use another name") from None
    except RuntimeError:
        raise ValueError(f"{path.parts[0]} is nobody's home here") from None
    if "\0" in str(path):
        raise ValueError("a path has no NUL characters")
    return found


def split_paths(value: object) -> object:
    """Folders separated as in PATH, or a JSON list; what is no text stays."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part for part in value.split(os.pathsep) if part]


def split_pairs(value: object) -> object:
    """`kind=path` pairs separated as in PATH, or a JSON object; what is no text stays."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return json.loads(value)
    pairs = [part.partition("=") for part in value.split(os.pathsep) if part]
    if any(not separator for _, separator, _ in pairs):
        raise ValueError("expected kind=path pairs")
    return {kind.strip(): path for kind, _, path in pairs}


def is_file(name: str, path: Path) -> bool:
    """Whether a file is there that a setting of that name names.

    Raises:
        ValueError: The system does not tell.
    """
    return _is(name, path, stat.S_ISREG)


def is_folder(name: str, path: Path) -> bool:
    """The same of a folder."""
    return _is(name, path, stat.S_ISDIR)


def _is(name: str, path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # a folder above it that this user may not enter, for one
        why = error.strerror or type(error).__name__
        raise ValueError(f"{name}: {path} cannot be looked at: {why}") from None
