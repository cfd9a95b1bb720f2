"""The catalogue's view of the disk: every model of the roots, described by its headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from domains.model.backends.folder_model import read_folder
from domains.model.backends.model_ids import unique_ids
from domains.model.backends.roots import SAFETENSORS, Fingerprint, Found, RootWalk
from domains.model.backends.single_file import describe_pickle, read_safetensors
from domains.model.types import Model, Scan


class DiskScanner:
    """Looks through model roots; remembers what it read while files do not change.

    Args:
        roots: Folders, the first has precedence where names are the same.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self._known: dict[tuple[Path, str], tuple[Fingerprint, Model]] = {}

    def scan(self) -> Scan:
        """Every model in the roots, usable or with its problem. One call at a time."""
        found: list[tuple[int, int, str, Found]] = []
        problems: list[str] = []
        for number, root in enumerate(self._roots):
            walk = RootWalk(root)
            found += [(_rank(one), number, one.relative, one) for one in walk.find()]
            problems += walk.problems
        found.sort(key=lambda entry: entry[:3])
        ids = unique_ids([(one.name, f"{number}/{place}") for _, number, place, one in found])
        known = {}
        models = []
        for model_id, (_, _, _, one) in zip(ids, found, strict=True):
            model = self._describe(one)
            known[one.path, one.name] = (one.files, model)
            models.append(replace(model, model_id=model_id))
        self._known = known
        return Scan(tuple(models), tuple(problems))

    def _describe(self, found: Found) -> Model:
        files, model = self._known.get((found.path, found.name), ((), None))
        if model is not None and files == found.files:
            return model
        if found.is_folder:
            return read_folder(found)
        if found.ending == SAFETENSORS:
            return read_safetensors(found)
        return describe_pickle(found)


def _rank(found: Found) -> int:
    """Folders before safetensors before pickles, where names are the same."""
    if found.is_folder:
        return 0
    return 1 if found.ending == SAFETENSORS else 2
