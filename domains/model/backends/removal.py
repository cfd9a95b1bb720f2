"""Deleting models from disk: whole or not at all, and nothing that belongs to others."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from domains.model.backends.hub_layout import BLOBS, SNAPSHOTS, snapshot_of
from domains.model.backends.model_notes import writable
from domains.model.backends.roots import NOTES_ENDING
from domains.model.errors import ReadOnlyModel
from domains.values import ModelPlace

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_ASIDE = re.compile(r"\.deviceops-deleted-[0-9a-f]{32}")


class DiskRemover:
    """See `ModelRemover`."""

    def remove(self, entry: ModelPlace) -> int:
        """See `ModelRemover`."""
        path = writable(entry)
        try:
            snapshot = snapshot_of(path.parts)
            if snapshot is None:
                freed = _removed(path)
            else:
                freed = _removed_from_hub(path, Path(*path.parts[: snapshot.at + 1]))
            path.with_name(path.name + NOTES_ENDING).unlink(missing_ok=True)
        except OSError as error:
            if error.errno in _FORBIDDEN and os.path.lexists(path):
                raise ReadOnlyModel(path.name) from error
            raise
        return freed

    def sweep(self, folders: Iterable[Path]) -> None:
        """See `ModelRemover`."""
        for folder in folders:
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    if _ASIDE.fullmatch(name):
                        shutil.rmtree(folder / name, ignore_errors=True)


def _removed(path: Path) -> int:
    """Remove a file, a link or a folder; returns the bytes that are free."""
    state = path.lstat()
    if not stat.S_ISDIR(state.st_mode):
        path.unlink()
        return state.st_size if stat.S_ISREG(state.st_mode) else 0
    found = [(path, state), *_below(path)]
    _check_removable(found)
    freed = sum(one.st_size for _, one in found if stat.S_ISREG(one.st_mode))
    # Hidden, and so no model any more, from one moment to the next. Links are not followed.
    aside = path.with_name(f".deviceops-deleted-{uuid.uuid4().hex}")
    path.rename(aside)
    shutil.rmtree(aside)
    return freed


def _check_removable(found: Iterable[tuple[Path, os.stat_result]]) -> None:
    """Whether these can be deleted too, before they are hidden.

    Raises:
        PermissionError: One cannot: what is in a folder that may not be written, or, on
            Windows, a file that may not.
    """
    for path, state in found:
        counts = stat.S_ISDIR(state.st_mode) or os.name == "nt"
        if counts and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _removed_from_hub(path: Path, repository: Path) -> int:
    """Remove what lies in a snapshot, and the files that no other name in the repository
    leads to; the repository, where nothing else is left of it."""
    mine = {target for target, _ in _links(path)}
    freed = _removed(path)
    used = {target for target, _ in _links(repository / SNAPSHOTS)}
    blobs = repository / BLOBS
    for blob in mine - used:
        # Only what lies in the repository's own store: a link may lead elsewhere.
        if blob.parent == blobs and blob.is_file() and not blob.is_symlink():
            freed += blob.stat().st_size
            blob.unlink()
    if not any(not stat.S_ISDIR(state.st_mode) for _, state in _below(repository / SNAPSHOTS)):
        freed += _removed(repository)
    return freed


def _links(path: Path) -> Iterator[tuple[Path, Path]]:
    """Each link at or below a path: where it leads by its text, and the link."""
    found = [(path, path.lstat())] if path.is_symlink() else list(_below(path))
    for one, state in found:
        if stat.S_ISLNK(state.st_mode):
            yield Path(os.path.normpath(one.parent / os.readlink(one))), one


def _below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below a folder, links not followed."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat()
