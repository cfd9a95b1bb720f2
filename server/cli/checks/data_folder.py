"""Checks of the data folder: what was set aside, what is not the server's, who can read it.

Nothing is changed, nothing is waited for, and nothing but the journal is read.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.checks import Finding, note, ok, problem
from server.data_folder import aside_in

if TYPE_CHECKING:
    from server.config import Settings

_ADVICE = "The next start migrates it, leaves its damaged rows out, or sets it aside."
_MOST_NAMED = 5
_JOURNAL = "journal.sqlite"
_FOLDERS = (
    "artifacts",
    "compiled",
    "models",
    "paused",
    "pictures",
    "provenance",
    "runtime",
    "spool",
    "thumbnails",
    "uploads",
)
_OWN = frozenset(
    {*_FOLDERS, "server.lock"}
    | {_JOURNAL, f"{_JOURNAL}-wal", f"{_JOURNAL}-shm", f"{_JOURNAL}-journal"}
)
_ARTIFACT = re.compile(r"[0-9a-f]{64}(\.json)?(\.\w{8}\.part)?\Z")


def check_data_folder(settings: Settings) -> list[Finding]:
    """What is in the data folder that somebody should know of."""
    folder = settings.data_dir
    if not os.path.lexists(folder):
        return [ok("data folder", f"{folder} does not exist yet; the first start makes it")]
    try:
        names = os.listdir(folder)
        found = [
            *_kinds(folder, names),
            *_journal(folder, names),
            *_aside(settings, names),
            *_others(settings, names),
        ]
    except OSError as error:
        advice = "Name a folder with --data-dir, or give this one to the server's user."
        return [problem("data folder", f"{folder}: {error.strerror or error}", advice)]
    return found or [ok("data folder", f"{folder}, with nothing set aside")]


def _kinds(folder: Path, names: list[str]) -> Iterator[Finding]:
    """Owners, modes and kinds; the next start closes and sets aside what it can."""
    for name in sorted(_OWN.intersection(names)):
        status = (folder / name).lstat()
        is_folder = name in _FOLDERS
        linked = stat.S_ISLNK(status.st_mode) and name in ("models", "runtime")
        right = stat.S_ISDIR(status.st_mode) if is_folder else stat.S_ISREG(status.st_mode)
        if not right and not linked:
            what = "folder" if is_folder else "regular file"
            yield problem(f"data folder: {name}", f"it is no {what}", "Move it away.")
        elif sys.platform != "win32" and name != "models" and not linked:
            yield from _access(name, status)


def _access(name: str, status: os.stat_result) -> Iterator[Finding]:
    if sys.platform == "win32":
        return
    if status.st_uid not in (os.geteuid(), 0):
        advice = "Give it to the server's user (chown), or move it away."
        yield problem(f"data folder: {name}", f"belongs to user id {status.st_uid}", advice)
    elif status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        yield note(f"data folder: {name}", f"has mode {mode}", "The next start closes it.")


def _journal(folder: Path, names: list[str]) -> Iterator[Finding]:
    """Whether every row of the journal is as it must be, and of those that were set aside."""
    from server.journal_file import BESIDE, look

    aside = [name for name in aside_in(names) if name.startswith(_JOURNAL)]
    for name in (_JOURNAL, *(name for name in sorted(aside) if not name.endswith(BESIDE))):
        try:
            rows = look(folder / name)
        except FileNotFoundError:
            continue
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            if name == _JOURNAL:
                yield note("journal", f"not usable as it is: {error}", _ADVICE)
        else:
            if rows.damaged:
                noun = "row" if rows.damaged == 1 else "rows"
                advice = _ADVICE if name == _JOURNAL else ""
                yield note(name, f"{rows.damaged} damaged {noun}", advice)


def _aside(settings: Settings, names: list[str]) -> Iterator[Finding]:
    """What servers could not use and kept."""
    aside = aside_in(names)
    for part in ("artifacts", "spool", "runtime", "thumbnails", "uploads"):
        inside = _names_in(settings.data_dir / part)
        aside += [f"{part}/{name}" for name in aside_in(inside)]
    if aside:
        advice = f"Look at them, then delete them; they lie in {settings.data_dir}."
        yield note("set aside", _named(aside), advice)


def _others(settings: Settings, names: list[str]) -> Iterator[Finding]:
    """What is nobody's, and left alone."""
    others = [name for name in names if name not in _OWN]
    artifacts = _names_in(settings.data_dir / "artifacts")
    others += [f"artifacts/{name}" for name in artifacts if not _ARTIFACT.match(name)]
    others = [name for name in others if not aside_in([name])]
    if others:
        yield note("other files", f"{_named(others)}: not the server's, and left alone")


def _named(names: list[str]) -> str:
    shown = ", ".join(ascii(name)[1:-1] for name in sorted(names)[:_MOST_NAMED])
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def _names_in(folder: Path) -> list[str]:
    """Nothing where the folder cannot be read, of which another finding speaks."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
