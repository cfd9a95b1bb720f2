"""Named points at which this process may be told to kill itself, to test what survives that.

Only the environment tells it, at the start of the process: `FAILPOINTS` has the names, with
commas, and `FAILPOINT_MARKS` a folder. A point kills at its first passage, and leaves a file of
its name in the folder, which keeps every later process from dying there as well. Without these
variables, which no setting stands for, a point is an empty function.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

NAMES, MARKS = "FAILPOINTS", "FAILPOINT_MARKS"
"""The variables."""


def armed(environment: Mapping[str, str]) -> Callable[[str], None]:
    """What a process with that environment does at a point, which is given by its name."""
    names = frozenset(filter(None, environment.get(NAMES, "").split(",")))
    folder = environment.get(MARKS, "")
    if not names or not folder:
        return _pass
    marks = Path(folder)

    def reach(name: str) -> None:
        if name not in names:
            return
        try:
            (marks / name).open("x").close()
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)

    return reach


def _pass(name: str) -> None:
    """Nothing happens."""


reach = armed(os.environ)  # noqa: TID251  it must not be a setting that users can find
"""The point of that name is reached: most often nothing happens."""
