"""How Hugging Face's cache lies on disk.

`models--org--name/snapshots/<revision>/...` are links into `models--org--name/blobs`;
`refs/main` holds the revision that the name alone stands for. Source: huggingface_hub,
"Understand caching".
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from domains.errors import DomainError
from domains.model.backends.confinement import Root

SNAPSHOTS = "snapshots"
BLOBS = "blobs"
REFS = "refs"
_PREFIX = "models--"
_NO_MODELS = ("datasets--", "spaces--")
_REVISION = re.compile(rb"[0-9a-f]{40}")
_SHOWN_DIGITS = 8


class Snapshot(NamedTuple):
    """One revision of a repository: `at` is where in the path its repository stands, and
    `rest` is the path below the revision."""

    repository: str
    revision: str
    at: int
    rest: tuple[str, ...]

    @property
    def title(self) -> str:
        """The repository as people write it ("org/name")."""
        return self.repository.replace("--", "/", 1)

    def pinned(self, name: str) -> str:
        """A name that stands for this revision alone."""
        return f"{name}--{self.revision[:_SHOWN_DIGITS]}"


def snapshot_of(parts: Sequence[str]) -> Snapshot | None:
    """The snapshot that a path is or lies in; None for others."""
    for at in range(len(parts) - 3, -1, -1):
        name, folder, revision = parts[at : at + 3]
        if name.startswith(_PREFIX) and name != _PREFIX and folder == SNAPSHOTS:
            return Snapshot(name.removeprefix(_PREFIX), revision, at, tuple(parts[at + 3 :]))
    return None


def home(root: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder that links of a model root may not leave, and the way from there to the root.

    A snapshot's links lead into its repository, so that is it for a root in one; other roots
    are it themselves.
    """
    path = Path(os.path.realpath(root))
    for repository, inside in (
        (path.parent, (SNAPSHOTS,)),
        (path.parent.parent, (SNAPSHOTS, path.name)),
    ):
        if repository.name.startswith(_PREFIX) and path == repository.joinpath(*inside):
            return repository, inside
    return root, ()


def holds_no_models(folder: str, name: str) -> bool:
    """Whether what lies in `folder` by this name is the cache's own, or of other kinds."""
    own = folder.startswith(_PREFIX) and name in (BLOBS, REFS)
    return own or name.startswith(_NO_MODELS)


def main_revision(root: Root, *repository: str) -> str:
    """The revision that a repository's name alone stands for; empty where none is noted."""
    try:
        with root.open(*repository, REFS, "main") as file:
            text = file.read(64) or b""
    except (OSError, DomainError):
        return ""
    found = _REVISION.fullmatch(text.strip())
    return found[0].decode() if found else ""
