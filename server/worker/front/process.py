"""A worker's process: spawned, listened to, killed with everything it started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.worker.front.output import WorkerOutput
from server.worker.front.windows_job import KillOnCloseJob

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
        descriptors: What it inherits beside its standard streams.
        job: Holds it together where the system has such a thing; one of its own if None.

    Raises:
        OSError: The program cannot be started.
        RuntimeError: The system has no thread left; no process is left either.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        record: bytes,
        *,
        on_line: Callable[[str], None],
        on_exit: Callable[[], None],
        descriptors: Sequence[int] = (),
        job: KillOnCloseJob | None = None,
    ) -> None:
        self._on_exit = on_exit
        self._gone = threading.Event()
        self._exit_code = 0
        # Held while its number is used or given back, so that it is never another's.
        self._reaping = threading.Lock()
        # Before the child: it does nothing until it has its record, so nothing it starts
        # can be outside the job.
        self._job = job or KillOnCloseJob()
        with contextlib.ExitStack() as undo:
            undo.callback(self._job.close)
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
                # A group of its own: an interrupt from the terminal is for the front to judge.
                creationflags=_CREATION_FLAGS,
                process_group=_PROCESS_GROUP,
            )
            stdin, stdout = self._process.stdin, self._process.stdout
            assert stdin is not None
            assert stdout is not None
            self._output = WorkerOutput(stdout, on_line, self._gone)
            undo.callback(self._undo)
            self._job.assign(self._process)
            self._output.start()
            threading.Thread(target=self._await_exit, name="worker-exit", daemon=True).start()
            undo.pop_all()
        with contextlib.suppress(BrokenPipeError), stdin:
            stdin.write(record)

    def _undo(self) -> None:
        """End a child whose end nobody awaits."""
        self._kill_all()
        self._process.wait()
        self._output.close()
        if self._process.stdin is not None:
            self._process.stdin.close()

    @property
    def process_id(self) -> int:
        """The process the front started."""
        return self._process.pid

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines it printed."""
        return self._output.last_lines

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
        self._output.close()

    def _await_exit(self) -> None:
        if sys.platform != "win32":
            _await_end(self._process.pid)
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


def _await_end(process_id: int) -> None:
    """Return once a child has ended; its number is its own still, so that its children can be
    found by it."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, process_id, os.WEXITED | os.WNOWAIT)
        return
    kernel: Any = select  # of macOS, where Python has the other one from 3.13 on
    ended = kernel.kevent(
        process_id,
        kernel.KQ_FILTER_PROC,
        kernel.KQ_EV_ADD | kernel.KQ_EV_ONESHOT,
        kernel.KQ_NOTE_EXIT,
    )
    with contextlib.closing(kernel.kqueue()) as queue, contextlib.suppress(ProcessLookupError):
        queue.control([ended], 1)  # one that has ended already is no process to it


def describe_exit(code: int) -> tuple[str, dict[str, str]]:
    """An exit code in words and as metadata."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return f"was ended by signal {name}", {"signal": name}
    return f"ended with exit code {code}", {"exit_code": str(code)}
