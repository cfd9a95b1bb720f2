"""The catalogue's view of the disk: every model of the roots, described by its headers."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from domains.model.backends.confinement import Root
from domains.model.backends.folder_model import read_folder
from domains.model.backends.model_ids import fit, unique_ids
from domains.model.backends.root_look import Remark
from domains.model.backends.root_scan import Judged, KnownRoot, RootScan
from domains.model.backends.roots import PICKLES, SAFETENSORS, Found
from domains.model.backends.single_file import describe_other, describe_pickle, read_safetensors
from domains.model.backends.watched_root import WatchedRoot
from domains.model.types import Model
from domains.model.views import Scan

_LOG = logging.getLogger(__name__)
_PATIENCE_SECONDS = 20.0


class DiskScanner:
    """Looks through model roots; remembers what it read while files do not change.

    Args:
        roots: Folders, the first has precedence where names are the same.
        read_only: Those of them in which nothing may be changed; one that the system lets
            nobody write is so by itself.
        patience: Seconds to wait for roots that are slow to answer.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        read_only: Collection[Path] = (),
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        self._read_only = frozenset(read_only)
        self._roots = [WatchedRoot(KnownRoot(root, describe)) for root in roots]
        self._patience = patience
        self._named: dict[tuple[int, str], tuple[Judged, Model]] = {}
        self._said: frozenset[Remark] = frozenset()

    def scan(self, *, full: bool = False, quiet: float = 0.0) -> Scan:
        """See `ModelScanner`."""
        for root in self._roots:
            root.begin(full=full, quiet=quiet)
        deadline = time.monotonic() + self._patience
        scans = [root.result(deadline) for root in self._roots]
        found = [(one, number) for number, scan in enumerate(scans) for one in scan.models]
        found.sort(key=lambda pair: (_rank(pair[0].found), pair[1], pair[0].found.relative))
        names = _names([(one.found, number) for one, number in found])
        places = [f"{number}/{one.found.relative}" for one, number in found]
        ids = unique_ids(list(zip(names, places, strict=True)))
        remarks = [remark for scan in scans for remark in scan.remarks]
        self._log(remarks)
        named = {}
        for (one, number), model_id in zip(found, ids, strict=True):
            model = self._as_named(number, one, model_id, scans[number])
            named[number, one.found.relative] = (one, model)
        self._named = named
        return Scan(
            tuple(model for _, model in self._named.values()),
            tuple(remark.sentence for remark in remarks),
            {root.path: scan.folders for root, scan in zip(self._roots, scans, strict=True)},
            any(scan.unsettled for scan in scans),
            any(scan.late for scan in scans),
        )

    def again(self, model: Model) -> Model | None:
        """See `ModelScanner`."""
        for (number, _), (one, named) in self._named.items():
            if named.model_id == model.model_id:
                judged = self._roots[number].again(one)
                if judged is None or judged is one:
                    return named if judged else None
                return replace(
                    judged.model,
                    model_id=named.model_id,
                    weights=judged.found.weights,
                    aliases=named.aliases,
                    read_only=named.read_only,
                    entry=named.entry,
                )
        return None

    def _as_named(self, number: int, one: Judged, model_id: str, scan: RootScan) -> Model:
        """The model with its id; the very one of the last scan where nothing changed."""
        read_only = (
            scan.read_only
            or self._roots[number].path in self._read_only
            or one.found.entry is None
        )
        before, named = self._named.get((number, one.found.relative), (None, None))
        if (
            before is one
            and named is not None
            and (named.model_id, named.read_only) == (model_id, read_only)
        ):
            return named
        snapshot = one.found.snapshot
        aliases = () if snapshot is None else (fit(snapshot.pinned(one.found.name)),)
        return replace(
            one.model,
            model_id=model_id,
            weights=one.found.weights,
            aliases=aliases if aliases != (model_id,) else (),
            read_only=read_only,
            entry=one.found.entry,
        )

    def _log(self, remarks: list[Remark]) -> None:
        """Log what was not said after the last scan already."""
        for sentence, path in remarks:
            if (sentence, path) not in self._said:
                _LOG.warning("left out of the model catalogue: %s (%r)", sentence, str(path))
        self._said = frozenset(remarks)


def describe(found: Found, root: Root) -> Model:
    """What a model is by its files; it has no id yet.

    Raises:
        OSError: The machine cannot read them at the moment.
    """
    if found.is_folder:
        return read_folder(found, root)
    if found.ending == SAFETENSORS:
        return read_safetensors(found, root)
    return describe_pickle(found) if found.ending in PICKLES else describe_other(found)


def _rank(found: Found) -> int:
    """Folders before safetensors before pickles, where names are the same."""
    if found.is_folder:
        return 0
    return 1 if found.ending == SAFETENSORS else 2


def _names(found: Sequence[tuple[Found, int]]) -> list[str]:
    """What each model is called. Of several revisions in Hugging Face's cache, the one that
    the repository's name stands for has the name alone."""
    revisions: defaultdict[tuple[int, str, str], set[str]] = defaultdict(set)
    for one, number in found:
        if one.snapshot is not None:
            key = (number, one.snapshot.repository, one.name)
            revisions[key].add(one.snapshot.revision)
    names = []
    for one, number in found:
        name, snapshot = one.name, one.snapshot
        if snapshot is not None and not one.is_main:
            several = len(revisions[number, snapshot.repository, one.name]) > 1
            name = snapshot.pinned(name) if several else name
        names.append(name)
    return names
