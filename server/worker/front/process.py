"""A worker's process: spawned, listened to, killed with everything it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

from server.worker.front.windows_job import KillOnCloseJob

_LONGEST_LINE = 4096
_KEPT_LINES = 50
# New process group, no window; and outside Windows a group led by the child.
_CREATION_FLAGS = 0x00000200 | 0x08000000 if sys.platform == "win32" else 0
_PROCESS_GROUP = None if sys.platform == "win32" else 0


class WorkerProcess:
    """One child process. It is spawned, never forked, and outside the terminal's group.

    Call from the main thread: on Linux a child's life hangs on the thread that made it.

    Args:
        command: Program and arguments.
        environment: Its whole environment.
        record: Written to its standard input, which is then closed.
        on_line: Called in a thread with each line it prints, cut and printable.
        on_exit: Called in a thread when it has ended.

    Raises:
        OSError: The program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        record: bytes,
        *,
        on_line: Callable[[str], None],
        on_exit: Callable[[], None],
    ) -> None:
        self._on_line = on_line
        self._on_exit = on_exit
        self._gone = threading.Event()
        self._exit_code = 0
        # Held while its number is used or given back, so that it is never another's.
        self._reaping = threading.Lock()
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        # Before the child: it does nothing until it has its record, so nothing it starts
        # can be outside the job.
        self._job = KillOnCloseJob()
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group of its own: an interrupt from the terminal is for the front to judge.
            creationflags=_CREATION_FLAGS,
            process_group=_PROCESS_GROUP,
        )
        self._job.assign(self._process)
        self._output = threading.Thread(
            target=self._read_output, name="worker-output", daemon=True
        )
        self._output.start()
        threading.Thread(target=self._await_exit, name="worker-exit", daemon=True).start()
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError), stdin:
            stdin.write(record)

    @property
    def process_id(self) -> int:
        """The process the front started."""
        return self._process.pid

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines it printed."""
        return tuple(self._lines)

    @property
    def exit_code(self) -> int:
        """Negative for a signal; only once it has ended."""
        return self._exit_code

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False when it has not after `timeout` seconds."""
        return self._gone.wait(timeout)

    def kill(self) -> None:
        """End it and its children at once; nothing happens when it has ended."""
        with self._reaping:
            if not self._gone.is_set():
                self._kill_all()

    def release(self) -> None:
        """Let go of what belongs to a process that has ended."""
        self._job.close()
        self._output.join(timeout=1)

    def _await_exit(self) -> None:
        if sys.platform != "win32":
            # Its number is still its own after this, so its children can be found.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        with self._reaping:
            self._kill_all()
            self._exit_code = self._process.wait()
            self._gone.set()
        self._on_exit()

    def _kill_all(self) -> None:
        if sys.platform == "win32":
            self._job.terminate()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _read_output(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with stream:
            for line in _lines(stream):
                self._lines.append(line)
                self._on_line(line)


def describe_exit(code: int) -> tuple[str, dict[str, str]]:
    """An exit code in words and as metadata."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return f"was ended by signal {name}", {"signal": name}
    return f"ended with exit code {code}", {"exit_code": str(code)}


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Lines of bounded length, printable."""
    while line := stream.readline(_LONGEST_LINE):
        text = line.decode("utf-8", "replace").rstrip()
        yield "".join(character if character.isprintable() else " " for character in text)
