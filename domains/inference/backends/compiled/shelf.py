"""Code that was made, on disk and loaded; what is missing is made in the background."""

from __future__ import annotations

import logging
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from domains import private_folders
from domains.codec import encode_json
from domains.inference.backends.compiled.code import Code
from domains.inference.backends.compiled.making import FACTS, Ended, Task
from domains.inference.backends.compiled.order import CodeOrder
from domains.inference.backends.compiled.passing import is_passing

_MOST_FOLDERS = 32
# Those that making takes, and a machine under load.
_MOST_SECONDS = 1800
_REFUSED = "refused"
_PREFIX = "making-"
_OURS = re.compile(rf"[0-9a-f]{{64}}|{_PREFIX}.*")
_MAKING = [sys.executable, "-P", "-m", "domains.inference.backends.compiled.making"]
_log = logging.getLogger("deviceops.compiled")


def can_compile() -> bool:
    """Whether this torch compiles for other processes; the compiler is not imported for it."""
    return (Path(torch.__file__).parent / "_inductor" / "standalone_compile.py").exists()


class CodeShelf:
    """Loads code that was made before, and has made what was not, one after another.

    Its methods return at once, but for `settled`. What cannot be made, or does not pay, is
    remembered on disk and not tried again; what failed for want of memory, disk, time or a
    compiler, the next process tries again.

    Args:
        folder: Where code is kept, this server's alone: it is run.
        command: Makes code; the product's own if left out.
    """

    def __init__(self, folder: Path, command: list[str] | None = None) -> None:
        self._folder, self._command = folder, command or _MAKING
        self._lock = threading.Lock()
        self._known: dict[str, Code | None] = {}
        self._waiting: queue.SimpleQueue[CodeOrder] = queue.SimpleQueue()
        self._unsettled = 0
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None

    def want(self, order: CodeOrder) -> None:
        """Have code ready at some time, if it can be had."""
        with self._lock:
            if order.key in self._known:
                return
            self._known[order.key] = None
            self._unsettled += 1
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="compiled-code", daemon=True
                )
                self._thread.start()
        self._waiting.put(order)

    def code(self, order: CodeOrder) -> Code | None:
        """The code, once it is loaded."""
        with self._lock:
            return self._known.get(order.key)

    def refuse(self, order: CodeOrder, why: str) -> None:
        """Have it never again: it is wrong, or does not pay."""
        _log.info("compiled code of %s is not used: %s", order.network, why)
        with self._lock:
            self._known[order.key] = None
        folder = self._of(order)
        with suppress(OSError):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=private_folders.PRIVATE)
            (folder / _REFUSED).write_text(why)

    def settled(self, check_stop: Callable[[], None]) -> None:
        """Return once nothing is waited for any more.

        Args:
            check_stop: Called a few times a second; may raise to stop, which leaves what is
                being made to go on.
        """
        while True:
            with self._changed:
                if not self._unsettled or self._changed.wait_for(
                    lambda: not self._unsettled, timeout=0.25
                ):
                    return
            check_stop()

    def _of(self, order: CodeOrder) -> Path:
        return self._folder / order.key

    def _serve(self) -> None:
        while True:
            order = self._waiting.get()
            try:
                code = self._had(order)
            except Exception as error:
                # As many ways to fail as there are compilers; plain code works everywhere.
                _log.warning("no compiled code of %s: %s", order.network, type(error).__name__)
                code = None
            with self._changed:
                self._known[order.key] = code
                self._unsettled -= 1
                self._changed.notify_all()

    def _had(self, order: CodeOrder) -> Code | None:
        private_folders.prepare(self._folder)
        folder = self._of(order)
        if (folder / _REFUSED).exists():
            return None
        if (folder / FACTS).exists():
            try:
                code = Code.load(folder)
            except Exception as error:
                if is_passing(error):
                    raise  # the code may be as it was
                _log.warning("code of %s is made anew: %s", order.network, type(error).__name__)
                shutil.rmtree(folder, ignore_errors=True)
            else:
                folder.touch()
                return code
        self._make(order, folder)
        return Code.load(folder) if (folder / FACTS).exists() else None

    def _make(self, order: CodeOrder, folder: Path) -> None:
        making = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._folder))
        try:
            ended = self._run(Task(order, making))
            if ended == Ended.MADE:
                # What is there under its name is whole.
                shutil.rmtree(folder, ignore_errors=True)
                making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        if ended == Ended.CANNOT:
            self.refuse(order, "it cannot be compiled here")
        self._sweep()

    def _run(self, task: Task) -> int:
        with subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as making:
            assert making.stdin is not None
            try:
                making.stdin.write(encode_json(task) + b"\n")
                making.stdin.flush()
                return making.wait(_MOST_SECONDS)
            except (OSError, subprocess.TimeoutExpired):
                making.kill()
                return Ended.NOT_NOW

    def _sweep(self) -> None:
        """Keep the folders used last, and what is not this shelf's."""
        ours = [each for each in self._folder.iterdir() if _OURS.fullmatch(each.name)]
        folders = sorted(ours, key=lambda each: each.stat().st_mtime)
        for each in folders[:-_MOST_FOLDERS]:
            shutil.rmtree(each, ignore_errors=True)
