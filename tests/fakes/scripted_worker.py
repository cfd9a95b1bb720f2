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
from datetime import UTC, datetime
from pathlib import Path

from domains.device.jobs import (
    AttentionBackend,
    DataTypeFacts,
    OptimizationChange,
    OptimizationJob,
    OptimizationReport,
    OptimizationSetting,
    ReleaseJob,
    ReleaseReport,
    SelfTestFacts,
    SelfTestJob,
)
from domains.device.types import DeviceFigures, LoadedComponent
from domains.errors import FieldViolation, InvalidArgument, Reason, Unavailable
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration, Timings
from domains.inference.types import Computation, GenerationSettings, PrecisionMode
from domains.memory.backends.chunks import Guard
from domains.memory.backends.process_buffers import ProcessBuffers
from domains.memory.types import Move
from domains.model.jobs import LoadJob, LoadReport
from domains.session.jobs import EncodedImage, JobContext, WorkPaused
from domains.session.types import (
    ImageDecoded,
    Phase,
    PhaseStarted,
    Preview,
    ProgressEvent,
    StepFinished,
    TransferProgress,
)
from domains.values import (
    ByteFigure,
    Degradation,
    DegradationKind,
    ModelOrigin,
    ModelPart,
    PartDataType,
    TensorDataType,
)
from server.worker.child.loop import main
from server.worker.child.parts import Parts
from server.worker.link.exits import EXIT_NODE_GONE
from tests.fakes.pictures import png

Emit = Callable[[ProgressEvent | EncodedImage], None]
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
FLOOD = 20_000  # events


class Device:
    """The device of this process."""

    computes = True


class ScriptedEngine:
    """Obeys the prompt; "draw" is honest work."""

    def generate(
        self, job: GenerationJob, context: JobContext
    ) -> GenerationReport | PausedGeneration:
        """See the port."""
        context.emit(PhaseStarted(Phase.DENOISING))
        act = getattr(self, "_" + job.settings.prompt.replace("-", "_"))
        try:
            act(job.settings, context.emit, context.check_stop)
        except WorkPaused:
            return PausedGeneration(Timings(denoise=0.25), kept_steps=1)
        if job.settings.prompt in ("checks-only", "pause", "flood", "long-step"):
            for index in range(len(job.settings.seeds)):
                context.emit(_picture(job.settings, index))
        return GenerationReport(
            timings=Timings(denoise=0.25),
            precision=PrecisionMode.EXACT,
            origin=ModelOrigin.LOADED,
            data_types=(PartDataType(ModelPart.DENOISER, TensorDataType.FLOAT32),),
            computed=Computation(),
            degradations=(Degradation(DegradationKind.VAE_TILED, "No room."),),
        )

    def optimize(self, job: OptimizationJob, context: JobContext) -> OptimizationReport:
        """Obeys the model id as `generate` does the prompt; "" is honest work."""
        if job.model_id == "refuse":
            raise InvalidArgument("It does not go.")
        for step in (1, 2):
            context.check_stop()
            context.emit(StepFinished(0, step, 2))
        unknown = ByteFigure.unknown("a fake")
        changes = (OptimizationChange(OptimizationSetting.VAE_TILING, None, "off", "on"),)
        return OptimizationReport(job.profile, changes, 0.5, 0.25, unknown, unknown)

    def load(self, job: LoadJob, context: JobContext) -> LoadReport:
        """A network of 1000 bytes in two halves, unless it is there."""
        unit = LoadedComponent(
            job.model_id,
            "unet",
            ByteFigure.measured(1000, "a fake"),
            TensorDataType.FLOAT16,
            EPOCH,
        )
        if self.components == (unit,):
            return LoadReport(self.components, ModelOrigin.LOADED)
        context.emit(PhaseStarted(Phase.LOADING_MODEL))
        self.components = ()
        for done in (500, 1000):
            context.check_stop()
            context.emit(TransferProgress("unet", done, 1000))
        self.components = (unit,)
        return LoadReport(self.components, ModelOrigin.DISK)

    def release(self, job: ReleaseJob, context: JobContext) -> ReleaseReport:
        """Lets go of what it holds, unless others are asked for."""
        context.emit(PhaseStarted(Phase.RELEASING))
        asked = [item for item in self.components if item.model_id in job.model_ids]
        released = tuple(asked) if job.model_ids else self.components
        self.components = tuple(item for item in self.components if item not in released)
        return ReleaseReport(released)

    def held(self) -> tuple[LoadedComponent, ...]:
        """One network, until it is released."""
        return self.components

    components: tuple[LoadedComponent, ...] = (
        LoadedComponent(
            "model", "unet", ByteFigure.measured(1000, "a fake"), TensorDataType.FLOAT16, EPOCH
        ),
    )

    def _draw(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        for index in range(len(work.seeds)):
            for step in range(1, work.steps + 1):
                check_stop()
                emit(StepFinished(index, step, work.steps))
            emit(Preview(index, work.steps, 8, 8, b"\xff\xd8\xff preview"))
            emit(ImageDecoded(index))
            emit(_picture(work, index))

    def _slowly(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        """Steps until it is stopped."""
        step = 0
        while True:
            check_stop()
            step += 1
            emit(StepFinished(0, step, 10_000))
            time.sleep(0.02)

    def _once_and_slowly(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        """A picture, and steps of the next one until it is stopped."""
        emit(_picture(work, 0))
        self._slowly(work, emit, check_stop)

    def _pauses_unasked(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        raise WorkPaused

    def _checks_only(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        """Works without news for as long as the guidance scale says, in seconds."""
        end = time.monotonic() + work.guidance.scale
        while time.monotonic() < end:
            check_stop()
            time.sleep(0.02)

    def _pause(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        """Steps of a tenth of a second, and one of two seconds."""
        for step in range(1, 6):
            emit(StepFinished(0, step, 6))
            time.sleep(0.1)
        time.sleep(1.9)
        emit(StepFinished(0, 6, 6))

    def _long_step(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        """One and a half seconds of work, those in which the process is stopped not counted."""
        for _ in range(15):
            time.sleep(0.1)

    def _hang(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        while True:
            time.sleep(0.01)

    def _spin(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        while True:
            pass

    def _stop(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def _seize(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        """No thread of this process runs Python any more."""
        ctypes.PyDLL(None).sleep(600)

    def _exit(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        os._exit(0)

    def _leave_cluster(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        os._exit(EXIT_NODE_GONE)

    def _crash(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        ctypes.string_at(0)

    def _flood(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        preview = b"\xff\xd8\xff" + bytes(64 * 1024)
        for step in range(1, FLOOD // 2 + 1):
            emit(StepFinished(0, step, FLOOD // 2))
            emit(Preview(0, step, 8, 8, preview if step % 100 == 0 else b"\xff\xd8\xff"))

    def _defect(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        raise ZeroDivisionError("secret path")

    def _break_device(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        """What a broken device raises need not say so."""
        Device.computes = False
        raise RuntimeError("secret path")

    def _refuse(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        raise InvalidArgument(
            "It does not go.",
            reason=Reason.FIELDS_CONFLICT,
            metadata={"steps": "3"},
            violations=[FieldViolation("settings.steps", Reason.FIELDS_CONFLICT, "No.")],
            retry_after=1.5,
        )

    def _lose_device(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        raise Unavailable("The device stopped working.", reason=Reason.DEVICE_LOST)

    def _fill_disk(
        self, work: GenerationSettings, emit: Emit, check_stop: Callable[[], None]
    ) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, hard))
        try:
            self._draw(work, emit, check_stop)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _picture(work: GenerationSettings, index: int) -> EncodedImage:
    (width, height), seed = work.size, work.seeds[index]
    data = png(width, height, f"of {seed}")
    return EncodedImage(index, seed, width, height, work.output.format, data)


class ScriptedBuffers(ProcessBuffers):
    """Real buffers in the worker's memory; names say what else happens."""

    def allocate(self, buffer_id: str, size: int, guard: Guard) -> None:
        """See the port; "hang" never answers, "slow" takes half a second."""
        match buffer_id:
            case "hang":
                time.sleep(600)
            case "slow":
                time.sleep(0.5)
            case "lost":
                raise Unavailable("The device stopped working.", reason=Reason.DEVICE_LOST)
            case "defect":
                raise ZeroDivisionError("secret path")
            case "break-device":
                Device.computes = False
                raise RuntimeError("secret path")
        super().allocate(buffer_id, size, guard)

    def move(self, move: Move, guard: Guard) -> None:
        """See the port; a length of 77 goes on until it is stopped, byte by byte."""
        while move.length == 77:
            guard.passed(1)
            time.sleep(0.02)
        super().move(move, guard)


class ScriptedGauge:
    """Knows nothing but what it is told."""

    def read(self, leased: int, models: tuple[LoadedComponent, ...]) -> DeviceFigures:
        """See the protocol."""
        unknown = ByteFigure.unknown("a fake")
        total = ByteFigure.measured(1 << 30, "a fake")
        now = datetime.now(UTC)
        return DeviceFigures(
            total, unknown, unknown, unknown, unknown, unknown, unknown, leased, models, now
        )


def _self_test(job: SelfTestJob, context: JobContext) -> SelfTestFacts:
    context.emit(PhaseStarted(Phase.MEASURING))
    context.check_stop()
    return SelfTestFacts(
        data_types=(DataTypeFacts(TensorDataType.FLOAT32, True, 1e-7, 0.1),),
        largest_allocation=ByteFigure.measured(1 << 20, "a fake"),
        attention_backends=(AttentionBackend.MATH,),
        has_float64=True,
        host_to_device_gbps=1.5,
        device_to_host_gbps=2.5,
        has_pinned_memory=False,
        has_compilation=False,
        measure_time=EPOCH,
        software_versions={"torch": "0"},
        problems=("Something is odd.",),
    )


def build(torch_device: str, _code_dir: Path | None) -> Parts:
    """The scripted parts; how it was started says what goes wrong."""
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
    return parts(ScriptedEngine())


class ScriptedStretch:
    """Always the same peak."""

    BYTES = 12_345

    def peak(self) -> ByteFigure:
        return ByteFigure.measured(self.BYTES, "scripted")


def parts(engine: ScriptedEngine) -> Parts:
    """Parts around that engine."""
    return Parts(
        {
            GenerationJob: engine.generate,
            LoadJob: engine.load,
            OptimizationJob: engine.optimize,
            ReleaseJob: engine.release,
            SelfTestJob: _self_test,
        },
        engine.held,
        ScriptedBuffers(),
        ScriptedGauge(),
        stretch=ScriptedStretch,
        computes=lambda: Device.computes,
        single_threaded=sys.argv[1:] == ["single-threaded"],
    )


if __name__ == "__main__":
    main(build)
