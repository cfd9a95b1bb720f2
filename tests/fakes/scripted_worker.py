"""A worker whose engine does what the prompt says: for faults that real ones rarely show.

    python -m tests.fakes.scripted_worker [how it starts]

It is the product's worker around a small engine; only the engine is a fake.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable

from domains.errors import FieldViolation, InvalidArgument, Reason, Unavailable
from domains.inference.types import (
    GenerationEvent,
    GenerationReport,
    GenerationWork,
    ImageEncoded,
    Timings,
)
from domains.model.types import DataType
from domains.session.types import (
    Degradation,
    DegradationKind,
    ImageDecoded,
    Phase,
    PhaseStarted,
    Preview,
    StepFinished,
)
from server.worker.loop import main

Emit = Callable[[GenerationEvent], None]
FLOOD = 20_000  # events


class ScriptedEngine:
    """Obeys the prompt; "draw" is honest work."""

    def generate(
        self, work: GenerationWork, *, emit: Emit, checkpoint: Callable[[], None]
    ) -> GenerationReport:
        """See the port."""
        emit(PhaseStarted(Phase.DENOISING))
        act = getattr(self, "_" + work.prompt.replace("-", "_"))
        act(work, emit, checkpoint)
        return GenerationReport(
            timings=Timings(denoise=0.25),
            unet_data_type=DataType.FLOAT32,
            vae_data_type=DataType.BFLOAT16,
            channels_last=True,
            degradations=(Degradation(DegradationKind.VAE_TILED, "No room."),),
        )

    def _draw(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        for index, seed in enumerate(work.seeds):
            for step in range(1, work.steps + 1):
                checkpoint()
                emit(StepFinished(index, step, work.steps))
            emit(Preview(index, work.steps, 8, 8, b"\xff\xd8\xff preview"))
            emit(ImageDecoded(index))
            data = b"picture of %d" % seed
            emit(ImageEncoded(index, seed, work.width, work.height, work.output.format, data))

    def _slowly(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        """Steps until it is stopped."""
        step = 0
        while True:
            checkpoint()
            step += 1
            emit(StepFinished(0, step, 10_000))
            time.sleep(0.02)

    def _checkpoints_only(
        self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]
    ) -> None:
        """Works without news for as long as `guidance_scale` says, in seconds."""
        end = time.monotonic() + work.guidance_scale
        while time.monotonic() < end:
            checkpoint()
            time.sleep(0.02)

    def _pause(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        """Steps of a tenth of a second, and one of seven tenths."""
        for step in range(1, 6):
            emit(StepFinished(0, step, 6))
            time.sleep(0.1)
        time.sleep(0.6)
        emit(StepFinished(0, 6, 6))

    def _hang(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        while True:
            time.sleep(0.01)

    def _spin(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        while True:
            pass

    def _stop(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def _seize(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        """No thread of this process runs Python any more."""
        ctypes.PyDLL(None).sleep(600)

    def _exit(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        os._exit(0)

    def _crash(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        ctypes.string_at(0)

    def _flood(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        preview = b"\xff\xd8\xff" + bytes(64 * 1024)
        for step in range(1, FLOOD // 2 + 1):
            emit(StepFinished(0, step, FLOOD // 2))
            emit(Preview(0, step, 8, 8, preview if step % 100 == 0 else b"\xff\xd8\xff"))

    def _defect(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        raise ZeroDivisionError("secret path")

    def _refuse(self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]) -> None:
        raise InvalidArgument(
            "It does not go.",
            reason=Reason.FIELDS_CONFLICT,
            metadata={"steps": "3"},
            violations=[FieldViolation("settings.steps", Reason.FIELDS_CONFLICT, "No.")],
            retry_after=1.5,
        )

    def _lose_device(
        self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]
    ) -> None:
        raise Unavailable("The device stopped working.", reason=Reason.DEVICE_LOST)

    def _fill_disk(
        self, work: GenerationWork, emit: Emit, checkpoint: Callable[[], None]
    ) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, hard))
        try:
            self._draw(work, emit, checkpoint)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _build(torch_device: str) -> ScriptedEngine:
    match sys.argv[1:]:
        case ["exit-at-start"]:
            os._exit(7)
        case ["no-library"]:
            raise ModuleNotFoundError("no torch", name="torch")
        case ["no-device"]:
            raise Unavailable("There is no such adapter.", reason=Reason.DEVICE_UNAVAILABLE)
        case ["hang-at-start"]:
            time.sleep(600)
        case [flag] if flag.startswith("die-while="):
            # As long as that file is there.
            if os.path.exists(flag.partition("=")[2]):
                os._exit(8)
    return ScriptedEngine()


if __name__ == "__main__":
    main(_build)
