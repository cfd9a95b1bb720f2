"""The files of a model that hold weights, whatever they are called."""

from __future__ import annotations

from pathlib import PurePath

from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.roots import MAX_DEPTH, PICKLES, SAFETENSORS

MAX_FILES = 5_000


def is_pickle(name: str) -> bool:
    """Whether a file is one of torch's, by its name."""
    return PurePath(name).suffix.lower() in PICKLES


def weight_files(files: ConfinedFiles) -> list[str]:
    """Their paths below the model's place, in order; "" for a model of one file.

    Raises: As `ConfinedFiles.names`.
    """
    if not files.has_folder():
        return [""]
    return sorted(name for name in every_file(files) if holds_tensors(name) or is_pickle(name))


def every_file(files: ConfinedFiles) -> list[str]:
    """Every file of a folder, hidden ones left out.

    Raises: As `ConfinedFiles.names`.
    """
    found: list[str] = []
    folders = [""]
    while folders and len(found) < MAX_FILES:
        folder = folders.pop()
        for name in files.names(folder):
            path = f"{folder}/{name}".lstrip("/")
            if name.startswith("."):
                continue
            if files.has_folder(path):
                if path.count("/") < MAX_DEPTH:
                    folders.append(path)
            elif files.has_file(path):
                found.append(path)
    return found


def holds_tensors(name: str) -> bool:
    """Whether a file is safetensors, by its name."""
    return PurePath(name).suffix.lower() == SAFETENSORS
