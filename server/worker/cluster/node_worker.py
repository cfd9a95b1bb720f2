"""What runs on another machine: an actor that starts our own worker there.

The worker is the same as on the front's machine, and ends with the actor. The actor passes
frames on without a look at them, and keeps the files that go with them: pictures that were
drawn, pictures to draw from.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import tempfile
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from msgspec.structs import replace

from server.worker.cluster.contents import Hashing, State, state_of
from server.worker.front.environment import child_environment, worker_command
from server.worker.front.process import WorkerProcess
from server.worker.link.connection import (
    Link,
    LinkClosed,
    LinkOffer,
    OversizedFrame,
    offer_link,
)
from server.worker.link.exits import EXIT_CANNOT_START
from server.worker.link.start_record import StartRecord

POLL_SECONDS = 1.0
# So many frames wait to be fetched; then the worker waits. And so many are fetched at once.
_MOST_WAITING = 1_000
_MOST_AT_ONCE = 100
_LAST_WORDS_SECONDS = 1.0
_THREADS = "OMP_NUM_THREADS"
_EXIT_SECONDS = 5.0

Heard = tuple[list[bytes], list[str], int | None]
"""Frames, lines that were printed, and the exit code once there is nothing more to come."""


@dataclass(frozen=True)
class _Ended:
    exit_code: int


class NodeWorker:
    """The actor. Everything it takes and gives is bytes, text and numbers."""

    def __init__(self) -> None:
        self._said: queue.Queue[bytes | str | _Ended] = queue.Queue(_MOST_WAITING)
        self._linked = threading.Event()
        self._heard = threading.Event()
        self._link: Link | None = None
        self._folder = Path()
        self._hashing = Hashing()

    def start(self, record: bytes) -> str:
        """Start the worker that the front's start record describes, on this machine.

        Returns:
            The folder of the files that are brought.
        """
        wanted = StartRecord.from_bytes(record)
        self._folder = _new_folder(wanted.device_id)
        for each in ("spool", "files"):
            (self._folder / each).mkdir(mode=0o700)
        # On Linux a child's life hangs on the thread that made it: it is this one's.
        threading.Thread(target=self._keep, args=(wanted,), name="worker", daemon=True).start()
        return str(self._folder / "files")

    def hear(self) -> Heard:
        """What the worker said since; waits a second for something."""
        frames: list[bytes] = []
        lines: list[str] = []
        wait = POLL_SECONDS
        while len(frames) < _MOST_AT_ONCE:
            try:
                said = self._said.get(timeout=wait)
            except queue.Empty:
                break
            match said:
                case bytes():
                    frames.append(said)
                case str():
                    lines.append(said)
                case _Ended(code):
                    return frames, lines, code
            wait = 0.001
        return frames, lines, None

    def send(self, frame: bytes) -> None:
        """Give the worker a frame; what is for a dead one is dropped."""
        self._linked.wait()
        if self._link is not None:
            try:
                self._link.send(frame)
            except LinkClosed:
                return

    def put(self, name: str, data: bytes) -> None:
        """Keep a file for the worker."""
        (self._folder / "files" / _bare(name)).write_bytes(data)

    def take(self, place: str, name: str) -> bytes | None:
        """A file that the worker made, which is gone then; None when there is none.

        `place` is "spool" for finished pictures, "files" for the others.
        """
        path = self._folder / _bare(place) / _bare(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        path.unlink(missing_ok=True)
        return data

    def keep_only(self, names: list[str]) -> list[str]:
        """Forget the files that are not among these; those of them that are here."""
        here = {path.name: path for path in (self._folder / "files").iterdir()}
        for name in here.keys() - set(names):
            here.pop(name).unlink(missing_ok=True)
        return sorted(here)

    def states(self, paths: list[str]) -> list[State | None]:
        """How files are on this machine; None for one that is not there."""
        return [state_of(path) for path in paths]

    def begin_hashing(self, paths: list[str]) -> None:
        """Begin to find what files hold; `hashed` tells."""
        self._hashing.begin(paths)

    def hashed(self) -> list[str] | None:
        """SHA-256 of those files, "" for one that cannot be read; None: not yet."""
        return self._hashing.found()

    def clear(self) -> None:
        """Delete what is kept, once the worker has ended."""
        shutil.rmtree(self._folder, ignore_errors=True)

    # In the worker's thread.

    def _keep(self, wanted: StartRecord) -> None:
        try:
            code = self._kept(wanted)
        except (OSError, RuntimeError) as error:
            # Whoever asks would hear nothing, for minutes.
            self._said.put(f"ERROR a worker cannot be started: {error}")
            code = EXIT_CANNOT_START
        self._linked.set()
        self._said.put(_Ended(code))

    def _kept(self, wanted: StartRecord) -> int:
        """A worker from its start to its end; its exit code."""
        offer = offer_link()
        record = replace(
            wanted,
            address=offer.address,
            key=offer.key,
            spool_dir=self._folder / "spool",
            parent_process_id=os.getpid(),
            code_dir=None,
        )
        try:
            process = WorkerProcess(
                worker_command(),
                _environment(),
                record.to_bytes(),
                on_line=self._said.put,
                on_exit=partial(self._abandon, offer),
                descriptors=offer.descriptors,
            )
        except BaseException:
            offer.close()
            raise
        offer.hand_over()
        self._listen(offer, process)
        self._heard.set()
        self._linked.set()
        if not process.wait(_EXIT_SECONDS):
            process.kill()
            process.wait()
        offer.close()
        process.release()
        return process.exit_code

    def _listen(self, offer: LinkOffer, process: WorkerProcess) -> None:
        try:
            self._link = offer.accept()
            self._linked.set()
            while True:
                self._said.put(self._link.receive())
        except LinkClosed:
            pass
        except OversizedFrame:
            self._said.put("ERROR the worker sent a frame that is too large")
            process.kill()

    def _abandon(self, offer: LinkOffer) -> None:
        """The process has ended: nothing comes any more, whoever else holds its link."""
        if not self._heard.wait(_LAST_WORDS_SECONDS):
            offer.abandon()


def _environment() -> dict[str, str]:
    """The worker's: without the one thread that Ray gives its actors, unless its node, whose
    child this process is, was started so."""
    environment = child_environment()
    with contextlib.suppress(psutil.Error):
        if _THREADS not in psutil.Process(os.getppid()).environ():
            environment.pop(_THREADS, None)
    return environment


def _new_folder(device_id: str) -> Path:
    """A folder for one worker; those of actors that were killed are deleted."""
    beginning = f"deviceops-{device_id.replace(':', '-')}-"
    for left in Path(tempfile.gettempdir()).glob(f"{beginning}*-*"):
        number = left.name.removeprefix(beginning).partition("-")[0]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{beginning}{os.getpid()}-"))


def _bare(name: str) -> str:
    """A name that leads nowhere else."""
    if Path(name).name != name:
        raise ValueError("not the name of a file")
    return name
