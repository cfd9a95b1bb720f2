"""Watching model folders: the system tells when something happens, nothing is asked.

Each root has a thread of its own, so that a drive that hangs keeps nothing from the others.
On Linux the folders are watched that the catalogue looked into, and no others: the library
would follow every link, also out of the root. Elsewhere the system watches whole trees and
follows none.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from domains.model.backends.network_drives import network_drive

_LINUX = sys.platform == "linux"
_STEP_MS = 200  # quiet after which changes are told; also how soon a watch ends
_MOST_MS = 1_600  # that changes are gathered for
_IDLE_MS = 1_000
_END_SECONDS = 5.0


class DiskWatch:
    """See `FolderWatch`."""

    def __init__(self) -> None:
        self._watched: dict[Path, _WatchedFolders] = {}
        self._closed = False
        self._changing = threading.Lock()
        # The library logs every change.
        logging.getLogger("watchfiles").setLevel(logging.WARNING)

    def follow(
        self, folders: Mapping[Path, tuple[Path, ...]], changed: Callable[[], None]
    ) -> None:
        """See `FolderWatch`."""
        with self._changing:
            if self._closed:
                return
            for root in self._watched.keys() - folders.keys():
                self._watched.pop(root).end()
            for root, below in folders.items():
                wanted = below if _LINUX else (root,)
                before = self._watched.get(root)
                if before is None or not before.does(wanted):
                    if before is not None:
                        before.end()
                    self._watched[root] = _WatchedFolders(root, wanted, changed)

    def unwatched(self) -> Mapping[Path, str]:
        """See `FolderWatch`."""
        with self._changing:
            return {root: one.why_not for root, one in self._watched.items() if one.why_not}

    def close(self) -> None:
        """See `FolderWatch`."""
        with self._changing:
            self._closed = True
            watched = tuple(self._watched.values())
            self._watched.clear()
        for one in watched:
            one.end()
        for one in watched:
            one.wait()


class _WatchedFolders:
    """Some folders of a root, watched in a thread until `end`.

    `why_not` is empty while they are.
    """

    def __init__(
        self, root: Path, folders: tuple[Path, ...], changed: Callable[[], None]
    ) -> None:
        self._root = root
        self._folders = folders
        self._changed = changed
        self._over = threading.Event()
        self.why_not = "" if folders else "it cannot be looked into"
        self._failed = False
        self._thread = threading.Thread(target=self._watch, name="model-watch", daemon=True)
        if folders:
            self._thread.start()

    def does(self, folders: tuple[Path, ...]) -> bool:
        """Whether it watches these, or knows why they cannot be."""
        return not self._failed and self._folders == folders

    def end(self) -> None:
        """Have it end soon."""
        self._over.set()

    def wait(self) -> None:
        """Until it has ended, some seconds at most."""
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    def _watch(self) -> None:
        if kind := network_drive(self._root):
            self.why_not = f"it lies on a network drive ({kind}), which tells no changes"
            return
        try:
            self._told()
        except FileNotFoundError:
            # A folder went between the look and this: the next look has others.
            self._failed = True
            self.why_not = "its folders change too fast to watch them"
            self._changed()
        except Exception as error:
            self.why_not = f"the system does not watch it ({error})"

    def _told(self) -> None:
        from watchfiles import watch

        told = watch(
            *self._folders,
            watch_filter=None,
            debounce=_MOST_MS,
            step=_STEP_MS,
            stop_event=self._over,
            rust_timeout=_IDLE_MS,
            yield_on_timeout=True,
            debug=False,
            raise_interrupt=False,
            force_polling=False,
            recursive=not _LINUX,
            ignore_permission_denied=True,
        )
        began = False
        for changes in told:
            # At first also what happened between the look and the beginning of this.
            if changes or not began:
                began = True
                self._changed()
