"""Walking through model roots without ever leaving them.

A link is followed only to a place inside the same root, judged by where it really ends:
comparing names would let `root_evil` pass for a part of `root`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_LOG = logging.getLogger(__name__)
INDEX = "model_index.json"
SAFETENSORS = ".safetensors"
PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin"})
_MAX_DEPTH = 6
_MAX_ENTRIES = 100_000

# Relative name, size in bytes, modification time in nanoseconds, of each file.
Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Found:
    """A model folder or model file. `path` is where it really lies, `relative` its place
    in the root with slashes, `name` its name without `ending`, which folders have none of.
    The real path may lack the ending: links decide what things are called."""

    path: Path
    relative: str
    name: str
    ending: str
    files: Fingerprint

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder with a model index."""
        return not self.ending

    @property
    def size_bytes(self) -> int:
        """Size on disk."""
        return sum(size for _, size, _ in self.files)

    @property
    def modified_at(self) -> datetime:
        """When the newest file changed."""
        newest = max((changed for _, _, changed in self.files), default=0)
        return datetime.fromtimestamp(newest / 1e9, UTC)


class RootWalk:
    """One walk through one root.

    Args:
        root: The folder; it may itself be a link, which the operator made.

    Attributes:
        problems: What was left out and why, one sentence each, without folders' names.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._real_root = Path(os.path.realpath(root))
        self._entries = 0
        self._seen: set[Path] = set()
        self.problems: list[str] = []

    def find(self) -> Iterator[Found]:
        """Every model folder and model file, in order of name."""
        if not os.path.isdir(self._root):
            self._leave_out(self._root, "A configured model folder is not there.")
            return
        yield from self._folder(self._real_root, 0)

    def _folder(self, folder: Path, depth: int) -> Iterator[Found]:
        real = Path(os.path.realpath(folder))
        if real in self._seen:
            return  # A link leads back to where the walk has been.
        self._seen.add(real)
        for entry in self._list(folder):
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if os.path.isdir(path):
                if not self._inside(path):
                    continue
                if os.path.isfile(path / INDEX):
                    yield from self._model_folder(path)
                elif depth < _MAX_DEPTH:
                    yield from self._folder(path, depth + 1)
                else:
                    self._leave_out(path, f"Folder {entry.name!r} lies too deep.")
            elif path.suffix.lower() in PICKLES | {SAFETENSORS} and self._inside(path):
                yield from self._model_file(path)

    def _list(self, folder: Path) -> list[os.DirEntry[str]]:
        """The folder's entries in order of name; none once the walk has seen too many."""
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            self._leave_out(folder, f"Folder {folder.name!r} cannot be read.")
            return []
        self._entries += len(listed)
        if self._entries > _MAX_ENTRIES:
            self._leave_out(folder, f"Folder {folder.name!r} and others: too many files.")
            return []
        return listed

    def _inside(self, path: Path) -> bool:
        real = Path(os.path.realpath(path))
        if real.is_relative_to(self._real_root):
            return True
        self._leave_out(
            path, f"{path.name!r} is a link that leads outside its root (PATH_OUTSIDE_ROOT)."
        )
        return False

    def _model_folder(self, folder: Path) -> Iterator[Found]:
        files = self._contents(folder, folder, 0)
        if files is not None:
            yield Found(
                Path(os.path.realpath(folder)),
                folder.relative_to(self._real_root).as_posix(),
                folder.name,
                ending="",
                files=tuple(files),
            )

    def _contents(
        self, model: Path, folder: Path, depth: int
    ) -> list[tuple[str, int, int]] | None:
        """Every file of a model folder; None when a part of it lies outside the root."""
        files = []
        for entry in self._list(folder):
            path = Path(entry.path)
            if not self._inside(path):
                return None
            if os.path.isdir(path):
                below = self._contents(model, path, depth + 1) if depth < _MAX_DEPTH else []
                if below is None:
                    return None
                files.extend(below)
            else:
                files.extend(self._state(path, path.relative_to(model).as_posix()))
        return files

    def _model_file(self, path: Path) -> Iterator[Found]:
        state = self._state(path, path.name)
        relative = path.relative_to(self._real_root)
        name = path.name[: -len(path.suffix)]
        # Libraries save every network under the same few names; the folder distinguishes it.
        if name.partition(".")[0] in _GENERIC_NAMES and len(relative.parts) > 1:
            name = path.parent.name
        if state:
            yield Found(
                Path(os.path.realpath(path)),
                relative.as_posix(),
                name,
                ending=path.suffix.lower(),
                files=tuple(state),
            )

    def _state(self, path: Path, name: str) -> list[tuple[str, int, int]]:
        try:
            state = path.stat()
        except OSError:
            self._leave_out(path, f"File {path.name!r} cannot be read.")
            return []
        return [(name, state.st_size, state.st_mtime_ns)]

    def _leave_out(self, path: Path, why: str) -> None:
        """The operator's log names the path; clients see the sentence."""
        _LOG.warning("left out of the model catalogue: %s (%s)", why, path)
        self.problems.append(why)


_GENERIC_NAMES = frozenset(
    {"diffusion_pytorch_model", "model", "pytorch_model", "pytorch_lora_weights"}
)
