"""The product's worker, whose generations do to their device what the prompt says.

    python -m tests.fakes.breaking_worker

Any other prompt is drawn. Only the drawing is replaced: what torch raises goes the product's
way from there.
"""

from __future__ import annotations

import time

import torch

from domains.inference.backends import engine
from domains.inference.backends.drawing import Drawing
from domains.inference.jobs import GenerationReport
from domains.session.types import StepFinished
from server.worker.child.__main__ import build_parts
from server.worker.child.loop import main

GIB = 1 << 30
HELD_BYTES = 8 * GIB
STEPS = 500


class BreakingDrawing(Drawing):
    """Obeys some prompts."""

    def run(self) -> GenerationReport:
        """Break what the prompt says, or draw."""
        device = self.model.device
        match self.settings.prompt:
            case "fail an assertion":
                table = torch.zeros(4, device=device)
                table[torch.tensor([1 << 20], device=device)].sum().item()
            case "fill memory":
                filled = []
                while True:
                    filled.append(torch.empty(GIB, dtype=torch.uint8, device=device))
            case "hold memory":
                held = torch.ones(HELD_BYTES, dtype=torch.uint8, device=device)
                for step in range(1, STEPS + 1):
                    self.context.check_stop()
                    self.context.emit(StepFinished(0, step, STEPS))
                    held.add_(1)
                    time.sleep(0.05)
        return super().run()


if __name__ == "__main__":
    engine.Drawing = BreakingDrawing  # type: ignore[misc]
    main(build_parts)
