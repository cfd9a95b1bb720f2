"""A scripted worker that writes down what it was started with.

    python -m tests.fakes.witness_worker FILE [refuse]

A line for the device it opened, and one for each profile it was told to run with.
"""

from __future__ import annotations

import sys
from pathlib import Path

from domains.device.jobs import OptimizationJob, OptimizationReport
from domains.errors import InvalidArgument
from domains.session.jobs import JobContext
from server.worker.child.loop import main
from server.worker.child.parts import Parts
from tests.fakes.scripted_worker import ScriptedEngine, parts


class WitnessEngine(ScriptedEngine):
    """Writes profiles down; with `refuse` it takes none."""

    def optimize(self, job: OptimizationJob, context: JobContext) -> OptimizationReport:
        """See the port."""
        _note(f"profile {job.profile.value} {job.model_id}".strip())
        if "refuse" in sys.argv:
            raise InvalidArgument("It does not go.")
        return super().optimize(job, context)


def _witness(torch_device: str, code_dir: Path | None) -> Parts:
    _note(f"device {torch_device}")
    return parts(WitnessEngine())


def _note(line: str) -> None:
    with Path(sys.argv[1]).open("a", encoding="ascii") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    main(_witness)
