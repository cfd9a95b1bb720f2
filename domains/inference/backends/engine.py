"""The engine: one device, one model at a time, one picture after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch
from msgspec import structs

from domains.device.backends import faults
from domains.device.errors import DeviceLost
from domains.device.jobs import OptimizationJob, OptimizationReport, ReleaseJob, ReleaseReport
from domains.device.types import LoadedComponent
from domains.errors import DomainError, ResourceExhausted
from domains.inference.backends.device import release_memory
from domains.inference.backends.drawing import Clock, Drawing
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.model_loading import (
    PreparedModel,
    load_weights,
    prepare_model,
    state_of,
)
from domains.inference.backends.optimization import Optimization
from domains.inference.backends.profiles import ProfileSettings, bring_into
from domains.inference.backends.room import fits_beside
from domains.inference.backends.second_try import with_room
from domains.inference.jobs import GenerationJob, GenerationReport
from domains.inference.types import PrecisionMode
from domains.model.backends.libraries import settle_libraries
from domains.model.jobs import LoadJob, LoadReport
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted
from domains.values import ModelOrigin, ModelPlace

# What to do when memory ran out.
_ADVICE = "draw a smaller picture, or unload other models"
Result = TypeVar("Result")


class Engine:
    """Draws pictures on one device; see the port of the same name.

    The model of the last call stays loaded. Only `held` is safe for use from another
    thread.

    Args:
        device: As torch names it: `cpu`, `cuda:0`, `mps`, `xpu:0`, `privateuseone:0`.
    """

    def __init__(self, device: str) -> None:
        settle_libraries()
        self._device = torch.device(device)
        self._model: LoadedModel | None = None
        self._settings = ProfileSettings()
        self._loads = 0
        self._components: tuple[LoadedComponent, ...] = ()
        self._working = False

    @property
    def loaded_path(self) -> Path | None:
        """The folder of the model that is loaded."""
        return None if self._model is None else self._model.place.path

    def held(self) -> tuple[LoadedComponent, ...]:
        """The networks that are loaded, as of now; see the port."""
        # Each is read once: the main thread may replace them meanwhile.
        components, working = self._components, self._working
        if not working:
            return components
        now = datetime.now(UTC)
        return tuple(
            structs.replace(part, in_use=True, last_use_time=now) for part in components
        )

    def generate(self, job: GenerationJob, context: JobContext) -> GenerationReport:
        """Draw every picture of `job`; see the port for errors.

        When memory runs out, what can be computed again is dropped and the one call that
        failed is made once more; a decoding that still fails is done in tiles, unless the
        request asks for EXACT.

        Raises:
            InvalidArgument: The scheduler's spacing, `steps` or `clip_skip` do not go with
                this model.
            FailedPrecondition: The model cannot be loaded, or NON_FINITE_OUTPUT.
            ResourceExhausted: HOST_OUT_OF_MEMORY or DEVICE_OUT_OF_MEMORY, with
                `needed_bytes` and `free_bytes` where they are known, `evictable_bytes`
                and `evictable_model_ids`.
            Unavailable: DEVICE_LOST; only a new process can use the device again.
        """
        clock = Clock()
        settings = job.settings
        may_tile = settings.precision is not PrecisionMode.EXACT
        if settings.precision is PrecisionMode.OPEN:
            settings = structs.replace(settings, precision=self._settings.open_precision)

        def draw() -> GenerationReport:
            loads = self._loads
            model = self._loaded(
                settings.model_id, job.place, settings.precision, context, clock
            )
            origin = ModelOrigin.LOADED if self._loads == loads else ModelOrigin.DISK
            return Drawing(
                model, settings, context, clock, job.previews, origin, may_tile
            ).run()

        return self._guarded(draw)

    def load(self, job: LoadJob, context: JobContext) -> LoadReport:
        """Have a model ready; see the port."""
        clock = Clock()
        precision = self._settings.open_precision
        self._guarded(lambda: self._loaded(job.model_id, job.place, precision, context, clock))
        origin = ModelOrigin.DISK if clock.timings().load else ModelOrigin.LOADED
        return LoadReport(self._components, origin)

    def unload(self) -> None:
        """Let the loaded model go and give its memory back."""
        self._model = None
        self._components = ()
        release_memory(self._device)

    def release(self, job: ReleaseJob, context: JobContext) -> ReleaseReport:
        """Let loaded models go; see the port. A stop leaves nothing half loaded."""
        model = self._model
        if model is None or (job.model_ids and model.model_id not in job.model_ids):
            return ReleaseReport(())
        context.emit(PhaseStarted(Phase.RELEASING))
        context.check_stop()
        released = self._components
        again = (model.model_id, model.place, model.precision)
        del model
        self.unload()
        if not job.reload:
            return ReleaseReport(released)
        self._guarded(lambda: self._loaded(*again, context, Clock()))
        return ReleaseReport(released, self._components)

    def optimize(self, job: OptimizationJob, context: JobContext) -> OptimizationReport:
        """Run with a profile from here on and measure its effect; see the port."""

        def loaded(precision: PrecisionMode) -> LoadedModel:
            assert job.place is not None
            return self._loaded(job.model_id, job.place, precision, context, Clock())

        optimization = Optimization(job, self._settings, self._set, context)
        return self._guarded(lambda: optimization.run(lambda: self._model, loaded))

    def _set(self, settings: ProfileSettings) -> None:
        self._settings = settings
        if self._model is not None:
            bring_into(self._model, settings)

    def _loaded(
        self,
        model_id: str,
        place: ModelPlace,
        precision: PrecisionMode,
        context: JobContext,
        clock: Clock,
    ) -> LoadedModel:
        model = self._model
        if (
            model is not None
            and (model.place, model.precision) == (place, precision)
            and model.fingerprint == state_of(model_id, place)
        ):
            return model
        del model
        context.emit(PhaseStarted(Phase.LOADING_MODEL))
        with clock.time("load"):
            prepared = prepare_model(
                model_id, place, precision, self._device, check_stop=context.check_stop
            )
            fresh = self._replacement(prepared, context)
            bring_into(fresh, self._settings)
            self._model = fresh
            self._loads += 1
        release_memory(self._device)
        self._count()
        return fresh

    def _replacement(self, prepared: PreparedModel, context: JobContext) -> LoadedModel:
        """Read a model's weights, beside those of the model before where there is room.

        That one then stays if reading fails or is stopped.
        """

        def load() -> LoadedModel:
            return load_weights(prepared, emit=context.emit, check_stop=context.check_stop)

        if self._model is None or not fits_beside(prepared.needed_bytes, self._device):
            self.unload()
            return load()
        return with_room(load, self.unload)

    def _count(self) -> None:
        """Note what is loaded; its last use is now."""
        model = self._model
        self._components = () if model is None else model.components(datetime.now(UTC))

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        self._working = True
        try:
            # Not inference mode: tensors made in it cannot be used outside it.
            with torch.no_grad():
                yield
        finally:
            self._count()
            self._working = False

    def _guarded(self, act: Callable[[], Result]) -> Result:
        """Run `act` without gradients, turning torch's errors into the domain's."""
        fault: DomainError
        try:
            with self._at_work():
                return act()
        except DomainError:
            raise
        except Exception as error:
            found = faults.domain_error(error, self._device, advice=_ADVICE)
            if found is None:
                raise
            faults.drop_frames(error)
            fault = found
        if isinstance(fault, DeviceLost):
            raise fault  # giving memory back would fail as well
        # Out here nothing refers to the failed call's tensors any more.
        release_memory(self._device)
        if isinstance(fault, ResourceExhausted):
            # The work had everything to itself: the model it needs is all that is held.
            fault.metadata |= {"evictable_bytes": "0", "evictable_model_ids": ""}
        raise fault
