"""Whether weight files are as they were found, without looking at anything else."""

from __future__ import annotations

from domains.model.types import FileState, Model


def unchanged(model: Model) -> bool:
    """Whether every weight file of a model has the size and the time of change that it was
    found with. Reads no file, so that it does not matter where a link leads by now: whoever
    opens one looks at that."""
    try:
        return all(_state(model, file.name) == file for file in model.weights)
    except OSError:
        return False


def _state(model: Model, name: str) -> FileState:
    state = (model.path / name if name else model.path).stat()
    return FileState(name, state.st_size, state.st_mtime_ns)
