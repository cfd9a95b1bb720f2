"""The engine: one device, one model at a time, one picture after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from domains.errors import DomainError
from domains.inference.backends import faults
from domains.inference.backends.device import release_memory
from domains.inference.backends.drawing import Clock, Drawing
from domains.inference.backends.loaded import LoadedModel
from domains.inference.backends.loading import load_model
from domains.inference.types import (
    GenerationEvent,
    GenerationReport,
    GenerationWork,
    PrecisionMode,
)
from domains.model.backends.diffusers_folder import fingerprint
from domains.model.backends.libraries import settle_libraries
from domains.session.types import Phase, PhaseStarted

Result = TypeVar("Result")


class Engine:
    """Draws pictures on one device; see the port of the same name.

    The model of the last call stays loaded. Not safe for use from two threads at once.

    Args:
        device: As torch names it: `cpu`, `cuda:0`, `mps`, `xpu:0`, `privateuseone:0`.
    """

    def __init__(self, device: str) -> None:
        settle_libraries()
        self._device = torch.device(device)
        self._model: LoadedModel | None = None

    @property
    def loaded_path(self) -> Path | None:
        """The folder of the model that is loaded."""
        return None if self._model is None else self._model.path

    def generate(
        self,
        work: GenerationWork,
        *,
        emit: Callable[[GenerationEvent], None],
        checkpoint: Callable[[], None],
    ) -> GenerationReport:
        """Draw every picture of `work`; see the port for arguments and errors.

        Raises:
            InvalidArgument: The scheduler, its spacing, `steps` or `clip_skip` do not
                go with this model.
            FailedPrecondition: The model cannot be loaded, or NON_FINITE_OUTPUT.
            ResourceExhausted: HOST_OUT_OF_MEMORY or DEVICE_OUT_OF_MEMORY, with
                `needed_bytes` and `free_bytes` where they are known.
            Unavailable: DEVICE_LOST; only a new process can use the device again.
        """
        clock = Clock()

        def draw() -> GenerationReport:
            model = self._loaded(work.model_path, work.precision, emit, checkpoint, clock)
            return Drawing(model, work, emit, checkpoint, clock).run()

        return self._guarded(draw)

    def load(
        self,
        path: Path,
        precision: PrecisionMode,
        *,
        emit: Callable[[GenerationEvent], None],
        checkpoint: Callable[[], None],
    ) -> None:
        """Have the model of folder `path` ready, so that the next call need not load it.

        Raises:
            DomainError: As `generate`, as far as it is about loading.
        """
        self._guarded(lambda: self._loaded(path, precision, emit, checkpoint, Clock()))

    def unload(self) -> None:
        """Let the loaded model go and give its memory back."""
        self._model = None
        release_memory(self._device)

    def _loaded(
        self,
        path: Path,
        precision: PrecisionMode,
        emit: Callable[[GenerationEvent], None],
        checkpoint: Callable[[], None],
        clock: Clock,
    ) -> LoadedModel:
        model = self._model
        if (
            model is not None
            and (model.path, model.precision) == (path, precision)
            and model.fingerprint == fingerprint(path)
        ):
            return model
        del model
        emit(PhaseStarted(Phase.LOADING_MODEL))
        with clock.time("load"):
            # The old one first: there may not be room for both.
            self.unload()
            self._model = load_model(
                path, precision, self._device, emit=emit, checkpoint=checkpoint
            )
        return self._model

    def _guarded(self, act: Callable[[], Result]) -> Result:
        """Run `act` without gradients, turning torch's errors into the domain's."""
        fault: DomainError
        try:
            # Not inference mode: tensors made in it cannot be used outside it.
            with torch.no_grad():
                return act()
        except DomainError:
            raise
        except Exception as error:
            found = faults.classify(error, self._device)
            if found is None:
                raise
            faults.drop_frames(error)
            fault = found
        # Out here nothing refers to the failed call's tensors any more.
        release_memory(self._device)
        raise fault
