"""How fast a model is loaded and computes on a device: each part of a picture's time alone."""

from __future__ import annotations

import time
from collections.abc import Callable

from domains.device.backends.torch_gauge import stretch_on
from domains.inference.backends.clock import Clock
from domains.inference.backends.device import synchronize
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loader import Loader
from domains.inference.backends.step_trial import StepTrial
from domains.inference.backends.wanted import WantedModel
from domains.model.jobs import BenchmarkJob, BenchmarkReport
from domains.session.jobs import JobContext

# So often what is done once in a picture is measured.
_REPEATS = 3
# Of those that schedulers were trained with.
_MOST_STEPS = 1_000


class Benchmark:
    """Measures one model on one device.

    Args:
        loader: Loads it, and lets it go.
        job: Which model and how.
        context: Hears of it and may stop it.
    """

    def __init__(self, loader: Loader, job: BenchmarkJob, context: JobContext) -> None:
        self._loader = loader
        self._job = job
        self._context = context
        self._wanted = WantedModel(job.model_id, job.place)

    def run(self) -> BenchmarkReport:
        """Measure, and leave the device as it was, as far as memory goes.

        A model that lay there before lies there afterwards; what made room for it does not
        come back.

        Raises:
            Exception: As torch raises it; DomainError as `Engine.load` and `decode_pixels`.
        """
        before = self._loader.models.at(self._job.place) is not None
        try:
            return self._measured()
        finally:
            if not before:
                self._let_go()

    def _measured(self) -> BenchmarkReport:
        job = self._job
        stretch = stretch_on(self._loader.device)
        load = tuple(self._load_seconds() for _ in range(_REPEATS))
        model = self._ready()
        switch = self._switch_seconds(model)
        trial = StepTrial(model, job.width, job.height)
        trial.settle_numerics(self._context)
        encode = tuple(self._checked(trial.encode) for _ in range(_REPEATS))
        # One step more: the first fills caches and picks kernels.
        cost = trial.measure(self._context, steps=min(job.steps + 1, _MOST_STEPS))
        decode = [cost.decode]
        decode += [trial.measure(self._context, steps=1).decode for _ in range(_REPEATS - 1)]
        peak = stretch.peak()
        return BenchmarkReport(
            load=load,
            switch=switch,
            encode=encode,
            step=cost.steps,
            decode=tuple(decode),
            peak_memory=peak,
            data_types=model.data_types(),
            channels_last=model.unet_numerics.channels_last,
        )

    def _load_seconds(self) -> float:
        """From disk onto the device."""
        self._let_go()
        return self._timed(self._ready)

    def _switch_seconds(self, model: LoadedModel) -> tuple[float, ...]:
        """From main memory into networks that are there; empty where it does not have all."""
        wanted = WantedModel(self._job.model_id, self._job.place, cached=self._job.cached)
        if not self._loader.switch_again(model, wanted, self._context):
            return ()
        return tuple(
            self._timed(lambda: self._loader.switch_again(model, wanted, self._context))
            for _ in range(_REPEATS)
        )

    def _ready(self) -> LoadedModel:
        return self._loader.ready(self._wanted, self._context, Clock()).model

    def _let_go(self) -> None:
        self._loader.let_go_of(self._job.place)

    def _checked(self, measure: Callable[[], float]) -> float:
        self._context.check_stop()
        return measure()

    def _timed(self, act: Callable[[], object]) -> float:
        synchronize(self._loader.device)
        began = time.perf_counter()
        act()
        synchronize(self._loader.device)
        return time.perf_counter() - began
