"""Models' weight files read whole, in several threads at once: disks and page caches give far
more to several readers than to one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import FileIO

from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.plans import networks_of
from domains.model.backends.shared_file import READS_AT_ONCE, SharedFile
from domains.model.backends.stored_weights import changed_meanwhile
from domains.model.types import FileState
from domains.values import ModelPlace

# A read this long takes a fraction of a second, so a stop is noticed soon.
_READ_BYTES = 8 << 20
_THREADS = min(8, max(2, os.cpu_count() or 2))


class ParallelReader:
    """See the port `WeightReader`."""

    def files(self, place: ModelPlace) -> tuple[FileState, ...]:
        """The files that hold a model's weights."""
        files = ConfinedFiles(place)
        names = [""]
        if files.has_folder():
            names = [file.name for network in networks_of(files) for file in network.files]
        return tuple(_state(files, name) for name in dict.fromkeys(names))

    def read(
        self,
        place: ModelPlace,
        files: Sequence[tuple[FileState, memoryview]],
        on_bytes: Callable[[int], None],
    ) -> None:
        """Read whole files, each to where it belongs."""
        on_disk = ConfinedFiles(place)
        ended = threading.Event()
        with ExitStack() as stack:
            opened = [
                (SharedFile(stack.enter_context(on_disk.open(state.name))), state, target)
                for state, target in files
            ]

            def read(piece: tuple[SharedFile, FileState, memoryview, int]) -> None:
                if ended.is_set():
                    return
                file, state, target, begin = piece
                try:
                    if READS_AT_ONCE:
                        _read(file, target, begin, on_bytes)
                        return
                    with on_disk.open(state.name) as own:
                        _check(own, state)
                        _read(SharedFile(own), target, begin, on_bytes)
                except BaseException:
                    ended.set()
                    raise

            pieces = [
                (file, state, target[begin : begin + _READ_BYTES], begin)
                for file, state, target in opened
                for begin in range(0, len(target), _READ_BYTES)
            ]
            for file, state, _ in opened:
                _check(file.file, state)
            with ThreadPoolExecutor(_THREADS, "weights") as threads:
                # The list raises what a piece raised, once all have ended.
                list(threads.map(read, pieces))
            for file, state, _ in opened:
                _check(file.file, state)


def _read(
    file: SharedFile, target: memoryview, begin: int, on_bytes: Callable[[int], None]
) -> None:
    done = 0
    while done < len(target):
        count = file.read_into(begin + done, target[done:])
        if not count:
            raise changed_meanwhile()
        done += count
        on_bytes(count)


def _state(files: ConfinedFiles, name: str) -> FileState:
    with files.open(name) as file:
        return _state_of(file, name)


def _state_of(file: FileIO, name: str) -> FileState:
    state = os.fstat(file.fileno())
    return FileState(name, state.st_size, state.st_mtime_ns)


def _check(file: FileIO, state: FileState) -> None:
    if _state_of(file, state.name) != state:
        raise changed_meanwhile()
