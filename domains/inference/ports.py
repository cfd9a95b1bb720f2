"""What image generation needs from outside its pure core."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Protocol

from domains.device.ports import TaskEvent
from domains.device.types import (
    Device,
    LoadedComponent,
    OptimizationReport,
    OptimizationWork,
    ReleaseReport,
    ReleaseWork,
)
from domains.inference.types import (
    GenerationEvent,
    GenerationReport,
    GenerationWork,
    RunEvent,
)
from domains.model.types import Model, ModelType


class Engine(Protocol):
    """Draws pictures on one device; one call at a time, in the device's own process."""

    def generate(
        self,
        work: GenerationWork,
        *,
        emit: Callable[[GenerationEvent], None],
        checkpoint: Callable[[], None],
    ) -> GenerationReport:
        """Draw every picture of `work`.

        Args:
            work: The resolved request.
            emit: Called with each event as it happens; must not block for long.
            checkpoint: Called before and after loading each component, at every
                denoising step, before and after decoding; raises to stop the work
                (`Cancelled`, `DeadlineExceeded`). Whatever it raises passes through.

        Raises:
            DomainError: The model cannot be loaded, memory ran out, or the result
                is not finite.
        """
        ...

    def optimize(
        self,
        work: OptimizationWork,
        *,
        emit: Callable[[TaskEvent], None],
        checkpoint: Callable[[], None],
    ) -> OptimizationReport:
        """Run with a profile from here on, and measure one real step before and after.

        Loads the model of `work` and leaves it loaded. When it raises, the profile is the
        one before. `emit` and `checkpoint` are as for `generate`.

        Raises:
            DomainError: As `generate`.
        """
        ...

    def release(
        self,
        work: ReleaseWork,
        *,
        emit: Callable[[TaskEvent], None],
        checkpoint: Callable[[], None],
    ) -> ReleaseReport:
        """Let loaded models go, and load them again where `work` says so.

        Models that are not loaded are no error: they are not in the report.

        Raises:
            DomainError: As `generate`, as far as it is about loading again.
        """
        ...

    def held(self) -> tuple[LoadedComponent, ...]:
        """The networks that are loaded, as of now. From any thread; never waits."""
        ...


class GenerationPool(Protocol):
    """The workers, as image generation sees them: one run at a time on each device."""

    def run_generation(
        self, device_id: str, session_id: str, work: GenerationWork, *, remaining: float
    ) -> AsyncGenerator[RunEvent | GenerationReport]:
        """Run `work` on a device's worker, waiting for a starting or recovering worker.

        Yields events as they happen and the report last. Closing the generator early
        stops the work as `cancel` does and returns when the worker is idle or replaced.

        Args:
            device_id: The device; the caller's queue has made sure it is free.
            session_id: Names the run for `cancel`.
            work: The resolved request.
            remaining: Seconds left; the run is stopped when they are over.

        Raises:
            Unavailable: The worker was lost (WORKER_LOST) or the device is quarantined.
            Cancelled: `cancel` was called.
            DeadlineExceeded: `remaining` is over, or the work hung (WORKER_HUNG).
            DomainError: Whatever the engine raised.
        """
        ...

    def cancel(self, device_id: str, session_id: str) -> None:
        """Ask a run to stop; nothing happens when `session_id` is not what runs there.

        The run's generator raises `Cancelled` after the current step, at the latest when
        the worker had to be killed because it did not answer.
        """
        ...


class Devices(Protocol):
    """The machine's devices, as image generation sees them."""

    async def resolve(self, name: str) -> Device:
        """The device of that id or alias; the default device for "".

        Raises:
            NotFound: DEVICE_NOT_FOUND.
            Unavailable: The device cannot be used.
        """
        ...


class Models(Protocol):
    """The model catalogue, as image generation sees it."""

    async def resolve(self, model_id: str, *, type: ModelType = ModelType.CHECKPOINT) -> Model:
        """The usable model of that id, of that type; the default checkpoint for "".

        Raises:
            NotFound: MODEL_NOT_FOUND.
            FailedPrecondition: It cannot be used, by its header.
        """
        ...

    def record_use(self, model_id: str) -> None:
        """Note that work with the model begins."""
        ...


class ArtifactKeeper(Protocol):
    """Where finished pictures go."""

    async def adopt(self, path: Path, sha256: str, session_id: str) -> object:
        """Take a finished file; see the artifact store for errors."""
        ...
