"""`python -m tests.fakes.unruly_inspector HOW`: the product's inspector, with a bad handler."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from domains.model.jobs import InspectionReport, InspectJob
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted
from server.worker.child.inspector import main


def crash() -> NoReturn:
    os.abort()


def dawdle() -> None:
    """One and a half seconds of work, those in which the process is stopped not counted."""
    for _ in range(15):
        time.sleep(0.1)


def hang() -> None:
    threading.Event().wait()


def grow() -> None:
    taken = []
    while True:
        taken.append(bytearray(64 << 20))


def connect() -> None:
    socket.create_connection(("127.0.0.1", 9))


def start() -> None:
    subprocess.run([sys.executable, "--version"], check=True)


WAYS: Mapping[str, Callable[[], object]] = {
    way.__name__: way for way in (crash, dawdle, hang, grow, connect, start)
}


def handler(job: InspectJob, context: JobContext) -> InspectionReport:
    """Do what the command line says, once the front has heard from it."""
    context.emit(PhaseStarted(Phase.READING))
    WAYS[sys.argv[1]]()
    return InspectionReport((), 0, "")


if __name__ == "__main__":
    main({InspectJob: handler})
