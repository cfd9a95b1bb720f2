"""One root and what is known of it: each model is judged when its files changed."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from domains.errors import Reason
from domains.model.backends.companion import CONFIGURATION
from domains.model.backends.confined_files import ConfinedFiles, Fingerprint
from domains.model.backends.confinement import Root, open_root
from domains.model.backends.hub_layout import home
from domains.model.backends.model_notes import with_notes
from domains.model.backends.plans import companion_state
from domains.model.backends.root_look import Remark
from domains.model.backends.roots import Found, RootWalk, found_again
from domains.model.backends.single_file import unusable
from domains.model.errors import PathOutsideRoot
from domains.model.types import LONE_NETWORKS, Model, ModelFormat, Problem

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """A model of a root as it was found, and what it is; it has no id yet. `companion` is the
    folder whose configuration it names, or the configuration beside it, as it was."""

    found: Found
    model: Model
    companion: Fingerprint = ()


@dataclass(frozen=True)
class RootScan:
    """What one look through a root found; `late` as in `Scan`."""

    models: tuple[Judged, ...] = ()
    remarks: tuple[Remark, ...] = ()
    folders: tuple[Path, ...] = ()
    unsettled: bool = False
    late: bool = False
    read_only: bool = False


class KnownRoot:
    """Looks through one root again and again. One call at a time.

    What cannot be read at the moment stays as it was known: a disk that went away or a
    machine without file handles says nothing about the models.

    Args:
        path: The root.
        describe: Says what a model is, from its files in the root; raises OSError where these
            cannot be read at the moment.
    """

    def __init__(self, path: Path, describe: Callable[[Found, Root], Model]) -> None:
        self.path = path
        self._describe = describe
        self._known: dict[str, Judged] = {}
        self._looked = False
        self._read_only = False

    def known(self) -> tuple[Judged, ...]:
        """What is known at the moment, also while a scan is under way."""
        return tuple(self._known.copy().values())

    def scan(self, *, full: bool = False, quiet: float = 0.0) -> RootScan:
        """Every model of the root. Never raises for what lies there.

        Args:
            full: Judge what has not changed again too.
            quiet: Seconds that what is new or has changed must not have changed for, to be
                judged: it may be being written. It does not hold for the first scan.
        """
        outermost, start = home(self.path)
        root = open_root(outermost)
        walk = RootWalk(root, start)
        look = walk.look
        there: set[str] = set()
        writing = False
        for found in walk.find():
            before = self._known.get(found.relative)
            known = before is not None and before.found == found
            if quiet and self._looked and not known and _is_fresh(found, quiet):
                writing = True
                look.unread.append(found.relative)
                continue
            try:
                if (
                    before is None
                    or not known
                    or full
                    or before.companion != _companion(before, root)
                ):
                    self._known[found.relative] = self._judged(found, root)
                there.add(found.relative)
            except PathOutsideRoot:
                why = f"A part of {found.name!r} leads outside its root (PATH_OUTSIDE_ROOT)."
                look.remarks.append(Remark(why, found.place.path))
            except (OSError, MemoryError):
                look.unread.append(found.relative)
                why = f"Model {found.name!r} cannot be read at the moment."
                look.remarks.append(Remark(why, found.place.path))
        for relative in self._known.keys() - there:
            if not any(_touches(relative, unread) for unread in look.unread):
                del self._known[relative]
        self._looked = True
        if self.path.is_dir():
            self._read_only = not os.access(self.path, os.W_OK)
        return RootScan(
            self.known(),
            tuple(look.remarks),
            tuple(look.folders),
            unsettled=writing,
            read_only=self._read_only,
        )

    def again(self, before: Judged) -> Judged | None:
        """A model as its own files are now; the very one where nothing changed, and None where
        only a scan can tell. Does not change what is known.

        Raises:
            PathOutsideRoot: A part of it has become a link that leads outside its root.
            OSError: The machine cannot read it at the moment.
        """
        found = found_again(before.found)
        if found is None:
            return None
        root = open_root(found.place.root)
        same = found == before.found and _companion(before, root) == before.companion
        return before if same else self._judged(found, root)

    def _judged(self, found: Found, root: Root) -> Judged:
        judged = Judged(found, self._judge(found, root))
        # What changes while it is judged shows at the next look.
        return replace(judged, companion=_companion(judged, root))

    def _judge(self, found: Found, root: Root) -> Model:
        try:
            return with_notes(self._describe(found, root), found)
        except (PathOutsideRoot, OSError, MemoryError):
            raise
        except Exception:
            # A defect of the server. The others are judged all the same, and this one is not
            # judged again before it changes.
            incident_id = uuid.uuid4().hex[:16]
            _LOG.exception("incident %s: judging %r", incident_id, str(found.place.path))
            return unusable(
                found,
                Problem(
                    Reason.MODEL_FORMAT_UNSUPPORTED,
                    "This model is of a form that the server cannot judge. Its log has the "
                    f"details under incident {incident_id}.",
                    {"incident_id": incident_id},
                ),
            )


def _is_fresh(found: Found, seconds: float) -> bool:
    """Whether a file of it changed in the last seconds. One of the future did not."""
    return 0 <= time.time() - found.modified < seconds


def _companion(judged: Judged, root: Root) -> Fingerprint:
    """The state of what a file names, or has beside it as a network of its own may, which shows
    in no state of the file.

    Raises: As `companion_state`.
    """
    model = judged.model
    alone = model.type in LONE_NETWORKS and model.format is ModelFormat.SAFETENSORS
    if not alone and CONFIGURATION not in model.metadata:
        return ()
    return companion_state(ConfinedFiles(judged.found.place, root), model.metadata)


def _touches(relative: str, unread: str) -> bool:
    """Whether a place that could not be read lies above a model, is it, or lies in it."""
    return (
        not unread
        or not relative  # the model is the root itself
        or relative == unread
        or relative.startswith(f"{unread}/")
        or unread.startswith(f"{relative}/")
    )
