"""Walking through a model root without ever leaving it.

What the walk has not looked at is left out: a folder beyond the bounds on depth and number
of files is not taken on trust. The walk goes level by level, so a heap of files deep down
keeps it from nothing that lies above.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import NamedTuple

from domains.file_names import unfit
from domains.model.backends.confined_files import ConfinedFiles, Fingerprint, file_state
from domains.model.backends.confinement import Root, open_root
from domains.model.backends.diffusers_folder import INDEX_FILE
from domains.model.backends.hub_layout import (
    Snapshot,
    holds_no_models,
    main_revision,
    snapshot_of,
)
from domains.model.backends.original_config import ENDINGS as CONFIG_ENDINGS
from domains.model.backends.root_look import Entries, Item, Refused, RootLook
from domains.model.errors import PathOutsideRoot
from domains.model.types import FileState, ModelFormat
from domains.values import ModelPlace

NOTES_ENDING = ".deviceops.json"
"""After a model's whole name: what clients say of it."""
SAFETENSORS = ".safetensors"
PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin"})
FORMATS = {
    "": ModelFormat.DIFFUSERS_FOLDER,
    SAFETENSORS: ModelFormat.SAFETENSORS,
    **dict.fromkeys(PICKLES, ModelFormat.PICKLE),
    ".onnx": ModelFormat.ONNX,
    ".gguf": ModelFormat.GGUF,
}
"""By the ending of a name; folders have none."""
MAX_DEPTH = 6
_MAX_MODEL_ENTRIES = 5_000


class Beside(NamedTuple):
    """A configuration beside a model file, of the same name with another ending: where it
    really lies, and its state."""

    place: ModelPlace
    state: Fingerprint


@dataclass(frozen=True)
class Found:
    """A model folder or model file.

    `place` is where it really lies, `relative` its place in the root with slashes, `name` its
    name without `ending`, which folders have none of. The real place may lack the ending: links
    decide what things are called. `entry` is where its name lies, None for a root that is a
    model; `notes` is what is kept beside that. `snapshot` is what it is of in Hugging Face's
    cache, `is_main` whether the repository's name stands for it.
    """

    place: ModelPlace
    relative: str
    name: str
    ending: str
    files: Fingerprint
    snapshot: Snapshot | None = None
    is_main: bool = False
    beside: Beside | None = None
    entry: ModelPlace | None = None
    notes: Fingerprint = ()

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder with a model index."""
        return not self.ending

    @property
    def size_bytes(self) -> int:
        """Size on disk."""
        return sum(file[1] for file in self.files)

    @property
    def modified_at(self) -> datetime:
        """When the newest file changed."""
        # A clock that was never set is no reason to leave a model out.
        return datetime.fromtimestamp(min(max(self.modified, 0), _LATEST), UTC)

    @property
    def modified(self) -> float:
        """When the newest file changed, in seconds since 1970."""
        return max((file[2] for file in self.files), default=0) / 1e9

    @property
    def weights(self) -> tuple[FileState, ...]:
        """Its files with weights, in order of path."""
        if not self.is_folder:
            return tuple(FileState("", *file[1:3]) for file in self.files)
        found = (FileState(*file[:3]) for file in self.files if _ending(file[0]))
        return tuple(sorted(found, key=lambda file: os.fsencode(file.name)))


def found_again(found: Found) -> Found | None:
    """A model in the state that its own files have now; None where it is not there, or where
    not all of it can be looked at.

    Raises:
        PathOutsideRoot: It has become a link that leads outside its root.
        OSError: The machine cannot read it at the moment.
    """
    if found.is_folder:
        walk = RootWalk(open_root(found.place.root), found.place.inside.parts)
        files = next((one.files for one in walk.find() if one.place == found.place), ())
        return replace(found, files=files) if files else None
    states = ConfinedFiles(found.place).states([""])
    files = tuple((found.files[0][0], *state[1:]) for state in states)
    return replace(found, files=files, beside=_beside_again(found)) if files else None


def _beside_again(found: Found) -> Beside | None:
    at = found.entry or found.place
    around = ConfinedFiles(ModelPlace(at.root, at.inside.parent))
    for ending in CONFIG_ENDINGS:
        name = at.inside.with_suffix(ending)
        with suppress(PathOutsideRoot):
            if state := around.states([name.name]):
                return Beside(ModelPlace(at.root, name), state)
    return None


class RootWalk:
    """One walk through one root; `look` has what it came upon.

    Args:
        root: What links may not leave.
        start: Where in it the walk begins.
    """

    def __init__(self, root: Root, start: tuple[str, ...] = ()) -> None:
        self._root = root
        self._start = start
        self._walked: set[tuple[int, int]] = set()
        self._models: dict[tuple[int, int], Fingerprint | None] = {}
        self._main: dict[tuple[str, ...], str] = {}
        self._notes: dict[tuple[str, ...], Fingerprint] = {}
        self.look = RootLook(root, start)

    def find(self) -> Iterator[Found]:
        """Every model folder and model file."""
        start = self.look.start()
        folders = deque([] if start is None else [start])
        while folders:
            folder = folders.popleft()
            with suppress(Refused):
                yield from self._folder(folder, folders)

    def _folder(self, folder: Item, folders: deque[Item]) -> Iterator[Found]:
        if folder.key in self._walked:
            return  # A link leads back to where the walk has been.
        if folder.key not in self._models:
            entries = self.look.list(folder)
            if entries is None:
                return
            if all(name != INDEX_FILE for name, _ in entries):
                yield from self._walk(folder, entries, folders)
                return
            # Another link to a model is not looked through again.
            self._models[folder.key] = None
            self._models[folder.key] = contents(self.look, folder, entries)
        files = self._models[folder.key]
        if files is not None:
            yield self._found(folder, folder.name, "", files)

    def _walk(self, folder: Item, entries: Entries, folders: deque[Item]) -> Iterator[Found]:
        """Look at what lies in a folder that is no model, and keep its folders for later."""
        self._walked.add(folder.key)
        if len(folder.shown) > MAX_DEPTH:
            self.look.leave_out(folder.shown, f"Folder {folder.name!r} lies too deep.")
            return
        self._notes |= {
            (*folder.spot.inside, name.removesuffix(NOTES_ENDING)): (file_state(name, state),)
            for name, state in entries
            if name.endswith(NOTES_ENDING) and stat.S_ISREG(state.st_mode)
        }
        configs = {
            PurePath(name).stem: (name, state)
            for name, state in reversed(entries)  # of several the first one counts
            if name.lower().endswith(CONFIG_ENDINGS)
        }
        path = self._path(folder)
        for name, state in entries:
            if name.startswith(".") or holds_no_models(path[-1], name):
                continue
            with suppress(Refused):
                if stat.S_ISDIR(state.st_mode) or stat.S_ISLNK(state.st_mode) or _ending(name):
                    for found in self._entry(folder, name, state, folders):
                        config = configs.get(PurePath(name).stem) if configs else None
                        beside = self._beside(folder, *config) if config else None
                        yield found if beside is None else replace(found, beside=beside)

    def _entry(
        self, folder: Item, name: str, state: os.stat_result, folders: deque[Item]
    ) -> Iterator[Found]:
        seen = self.look.follow(folder, name, state, matters=bool(_ending(name)))
        if seen is None:
            return
        is_folder = stat.S_ISDIR(seen.spot.state.st_mode)
        if not is_folder and not _ending(name):
            return
        why = unfit(name)
        if not why and not is_folder and not stat.S_ISREG(seen.spot.state.st_mode):
            why = "is neither a file nor a folder"
        if why:
            self.look.leave_out(seen.shown, f"{name!r} {why}.")
        elif is_folder:
            folders.append(seen)
        else:
            yield self._file(seen)

    def _file(self, file: Item) -> Found:
        ending = _ending(file.name)
        stem = file.name[: -len(ending)]
        # Libraries save every network under the same few names; the folder distinguishes it.
        if stem.partition(".")[0] in _GENERIC_NAMES and len(self._path(file)) > 1:
            snapshot = snapshot_of(self._path(file))
            if snapshot is not None and len(snapshot.rest) == 1:
                stem = snapshot.repository
            elif len(file.shown) > 1:
                stem = file.shown[-2]
        files = (file_state(file.name, file.spot.state),)
        return self._found(file, stem, ending, files)

    def _beside(self, folder: Item, name: str, state: os.stat_result) -> Beside | None:
        try:
            seen = self.look.follow(folder, name, state, matters=False)
        except Refused:
            return None
        if seen is None or not stat.S_ISREG(seen.spot.state.st_mode):
            return None
        place = ModelPlace(self._root.path, Path(*seen.spot.inside))
        return Beside(place, (file_state(name, seen.spot.state),))

    def _found(self, at: Item, name: str, ending: str, files: Fingerprint) -> Found:
        place = entry = ModelPlace(self._root.path, Path(*at.spot.inside))
        if at.entry != at.spot.inside:
            entry = ModelPlace(self._root.path, Path(*at.entry))
        path = self._path(at)
        snapshot = snapshot_of(path)
        if not name or (snapshot is not None and not snapshot.rest):
            name = path[-1] if snapshot is None else snapshot.repository
        is_main = snapshot is not None and self._main_of(snapshot, at) == snapshot.revision
        relative = "/".join(at.shown)
        return Found(
            place,
            relative,
            name,
            ending,
            files,
            snapshot=snapshot,
            is_main=is_main,
            entry=entry if at.entry else None,
            notes=self._notes.get(at.entry, ()),
        )

    def _path(self, at: Item) -> tuple[str, ...]:
        """The whole path by which one came to something."""
        return (*self._root.path.parts, *self._start, *at.shown)

    def _main_of(self, snapshot: Snapshot, at: Item) -> str:
        above = len(self._root.path.parts)
        if snapshot.at + 1 < above:
            return ""  # The repository is not in the root.
        repository = self._path(at)[above : snapshot.at + 1]
        if repository not in self._main:
            self._main[repository] = main_revision(self._root, *repository)
        return self._main[repository]


def contents(look: RootLook, model: Item, entries: Entries) -> Fingerprint:
    """Every file of a model folder with these `entries`, each folder in it once.

    Raises:
        Refused: Not all of it can be looked at, or a part of it is a link that leads
            outside the root.
    """
    files = []
    left = _MAX_MODEL_ENTRIES
    seen = {model.key}
    folders = deque([(model, entries)])
    while folders:
        folder, entries = folders.popleft()
        left -= len(entries)
        if left < 0:
            raise look.refuse(model.shown, f"Model {model.name!r} has too many files.")
        for name, state in entries:
            below = look.follow(folder, name, state)
            if below is None:
                continue
            path = below.shown[len(model.shown) :]
            if stat.S_ISREG(below.spot.state.st_mode):
                files.append(file_state("/".join(path), below.spot.state))
            elif stat.S_ISDIR(below.spot.state.st_mode) and below.key not in seen:
                seen.add(below.key)
                if len(path) > MAX_DEPTH:
                    raise look.refuse(model.shown, f"Model {model.name!r} is too deep.")
                listed = look.list(below)
                if listed is not None:
                    folders.append((below, listed))
    return tuple(files)


def _ending(name: str) -> str:
    """The ending of a name that a model file may have; empty for others."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    ending = dot + ending.lower()
    return ending if stem and ending in FORMATS else ""


_GENERIC_NAMES = frozenset(
    {"diffusion_pytorch_model", "model", "pytorch_model", "pytorch_lora_weights"}
)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
