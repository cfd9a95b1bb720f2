"""A Ray cluster on this machine: one node as the front's, and others that can be killed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

# Of 127.0.0.1 Ray believes that this machine's outer address is meant.
_HEAD, _NODES = "127.0.0.2", "127.0.0.{}"
_START_SECONDS = 120.0
_SMALL = (
    *("--num-cpus=0", f"--object-store-memory={80 << 20}", "--block"),
    # All nodes are on one machine: each worker takes any port that is free.
    *("--min-worker-port=0", "--max-worker-port=0", "--include-log-monitor=false"),
)


class Cluster:
    """A cluster whose nodes are processes of this one, on the loopback alone.

    Args:
        nodes: Names of those beside the head, which is the front's.
    """

    def __init__(self, *nodes: str) -> None:
        # Ray's sockets lie below it, and their paths must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self.address = f"{_HEAD}:{_free_port()}"
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._numbers: dict[str, int] = {}
        try:
            port = self.address.rpartition(":")[2]
            self._start(
                "here",
                *("--head", f"--port={port}", f"--node-ip-address={_HEAD}"),
                *(f"--temp-dir={self._folder / 't'}", "--disable-usage-stats"),
                "--include-dashboard=false",
            )
            self._until("here", lambda: _listens(self.address))
            for name in nodes:
                self.join(name)
        except BaseException:
            self.close()
            raise

    def join(self, name: str, *, instead: tuple[Path, Path] | None = None) -> None:
        """Start a node, again where it was killed.

        Args:
            name: What it is called.
            instead: A folder, and what the node finds in its place: another machine's disk.
        """
        number = self._numbers.setdefault(name, 3 + len(self._numbers))
        own = f"--node-ip-address={_NODES.format(number)}"
        self._start(name, f"--address={self.address}", own, instead=instead)
        self._until(name, lambda: "Ray runtime started" in self._log(name))

    def kill(self, name: str) -> None:
        """End a node with everything on it, as if its machine lost power."""
        process = self._nodes.pop(name)
        family = _family(process.pid)
        for each in family:
            each.suspend()  # nobody is left to notice the others' ends
        for each in family:
            each.kill()
        process.wait()

    def has(self, name: str) -> bool:
        """Whether a node of that name was started and not killed."""
        return name in self._nodes

    def workers(self, name: str) -> set[int]:
        """Our workers on a node, by process id."""
        family = _family(self._nodes[name].pid)
        return {each.pid for each in family if "server.worker.child" in _command(each)}

    def close(self) -> None:
        """End the rest."""
        for name in tuple(self._nodes):
            self.kill(name)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, name: str, *flags: str, instead: tuple[Path, Path] | None = None) -> None:
        own = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "100"}
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--node-name={name}"]
        within: list[str] = []
        if instead is not None:
            place, other = map(str, instead)
            script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
            within = ["unshare", "--mount", "sh", "-c", script, "sh", other, place]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._nodes[name] = subprocess.Popen(
                [*within, *start, *_SMALL, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[2],
                env={**os.environ, **own},  # noqa: TID251  Ray's own settings
            )

    def _log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text("utf-8", "replace")

    def _until(self, name: str, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not there():
            if self._nodes[name].poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"node {name} did not start:\n{self._log(name)}")
            time.sleep(0.1)


def can_have_other_disks() -> bool:
    """Whether nodes on this machine may find other things than the rest of it does."""
    return shutil.which("unshare") is not None and not subprocess.call(
        ["unshare", "--mount", "true"], stderr=subprocess.DEVNULL
    )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((_HEAD, 0))
        port: int = found.getsockname()[1]
        return port


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def _family(process_id: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(process_id)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []  # it has just ended
