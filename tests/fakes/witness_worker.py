"""A scripted worker that writes down what it was started with.

    python -m tests.fakes.witness_worker FILE [refuse]

A line for the device it opened, and one for each profile it was told to run with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from domains.device.types import OptimizationReport, OptimizationWork
from domains.errors import InvalidArgument
from server.worker.loop import main
from server.worker.parts import Parts
from tests.fakes.scripted_worker import ScriptedEngine, TaskEmit, build


class WitnessEngine(ScriptedEngine):
    """Writes profiles down; with `refuse` it takes none."""

    def optimize(
        self, work: OptimizationWork, *, emit: TaskEmit, checkpoint: Callable[[], None]
    ) -> OptimizationReport:
        """See the port."""
        _note(f"profile {work.profile.value} {work.model_id}".strip())
        if "refuse" in sys.argv:
            raise InvalidArgument("It does not go.")
        return super().optimize(work, emit=emit, checkpoint=checkpoint)


def _witness(torch_device: str) -> Parts:
    _note(f"device {torch_device}")
    return replace(build(torch_device), engine=WitnessEngine())


def _note(line: str) -> None:
    with Path(sys.argv[1]).open("a", encoding="ascii") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    main(_witness)
