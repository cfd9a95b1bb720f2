"""Having models ready on one device: found there, or loaded where there is room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from domains.inference.backends.device import release_memory
from domains.inference.backends.drawing import Clock
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loaded_models import MOST_MODELS, LoadedModels
from domains.inference.backends.model_loading import (
    PreparedModel,
    load_weights,
    prepare_model,
    state_of,
)
from domains.inference.backends.profiles import ProfileSettings, bring_into
from domains.inference.backends.room import fits_beside, picture_bytes
from domains.inference.backends.second_try import with_room
from domains.inference.types import PrecisionMode
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted
from domains.values import ModelOrigin, ModelPlace, PartDataType


@dataclass(frozen=True)
class WantedModel:
    """A model that work needs. `data_types` are those of its parts that somebody chose."""

    model_id: str
    place: ModelPlace
    precision: PrecisionMode = PrecisionMode.OPEN
    data_types: tuple[PartDataType, ...] = ()

    def is_served_by(self, model: LoadedModel, precision: PrecisionMode) -> bool:
        """Whether `model` is the one, computing as is asked for.

        One whose data types somebody chose serves whoever leaves them open.
        """
        if model.place != self.place:
            return False
        if self.data_types:
            return model.chosen == self.data_types
        if model.chosen:
            return self.precision is PrecisionMode.OPEN
        return model.precision is precision


@dataclass(frozen=True)
class ReadyModel:
    """A model that is loaded, and where it was when work asked for it."""

    model: LoadedModel
    origin: ModelOrigin


class Loader:
    """Has models ready on a device. For the main thread alone.

    Several stay while there is room for their weights and for a picture of the largest of
    them; the least recently used gives way first.

    Args:
        device: Where.
        changed: Called when other models are there than before.
    """

    def __init__(self, device: torch.device, changed: Callable[[], None]) -> None:
        self._device = device
        self._changed = changed
        self.models = LoadedModels()
        self.settings = ProfileSettings()
        """What the device's profile decides for all of them."""

    def ready(self, wanted: WantedModel, context: JobContext, clock: Clock) -> ReadyModel:
        """The model, loaded if it is not there; its seconds are `clock`'s `load`.

        What cannot be loaded costs nothing: the others stay, unless memory did not suffice
        for them beside it.

        Raises:
            DomainError: As `prepare_model` and `load_weights`.
            Exception: As torch raises it.
        """
        precision = wanted.precision
        if precision is PrecisionMode.OPEN:
            precision = self.settings.open_precision
        there = self.models.at(wanted.place)
        if (
            there is not None
            and wanted.is_served_by(there, precision)
            and there.fingerprint == state_of(wanted.model_id, wanted.place)
        ):
            self.models.use(there)
            return ReadyModel(there, ModelOrigin.LOADED)
        del there
        context.emit(PhaseStarted(Phase.LOADING_MODEL))
        with clock.time("load"):
            prepared = prepare_model(
                wanted.model_id,
                wanted.place,
                PrecisionMode.OPEN if wanted.data_types else precision,
                self._device,
                data_types=wanted.data_types,
                check_stop=context.check_stop,
            )
            fresh = self._loaded(prepared, context)
            # By its place: a model that knows itself would not go with its last user.
            fresh.others_make_room = lambda: self.let_go(keep=self.models.at(wanted.place))
            bring_into(fresh, self.settings)
        return ReadyModel(fresh, fresh.origin)

    def make_room_for_picture(self, model: LoadedModel, width: int, height: int) -> None:
        """Let other models go, the least recently used first, until a picture fits."""
        needed = picture_bytes(
            model.plan_config("vae"), width, height, model.vae_numerics.data_type
        )
        if len(self.models) > 1 and not fits_beside(needed, self._device):
            release_memory(self._device)
            self.models.let_go_until(lambda: fits_beside(needed, self._device), keep=model)
            self._changed()

    def let_go(self, *, keep: LoadedModel | None = None) -> None:
        """Let every model go but one."""
        self.models.let_go_until(lambda: False, keep=keep)
        self._changed()

    def apply(self, settings: ProfileSettings) -> None:
        """Run with these settings from here on."""
        self.settings = settings
        for model in self.models:
            bring_into(model, settings)

    def _loaded(self, prepared: PreparedModel, context: JobContext) -> LoadedModel:
        """The model with its weights, beside the others where there is room."""

        def load() -> LoadedModel:
            return load_weights(prepared, emit=context.emit, check_stop=context.check_stop)

        self._make_room(prepared)
        fresh = with_room(load, self.let_go)
        self.models.let_go(lambda one: one.place == prepared.place)
        self.models.use(fresh)
        wanted = prepared.picture_bytes
        crowded = len(self.models) > MOST_MODELS
        if crowded or not fits_beside(wanted, self._device):
            release_memory(self._device)
            self.models.let_go_until(
                lambda: len(self.models) <= MOST_MODELS and fits_beside(wanted, self._device),
                keep=fresh,
            )
        self._changed()
        return fresh

    def _make_room(self, prepared: PreparedModel) -> None:
        """Let models go until the weights fit; none where they fit beside all."""
        needed = prepared.needed_bytes
        if len(self.models) and not fits_beside(needed, self._device):
            release_memory(self._device)
            self.models.let_go_until(lambda: fits_beside(needed, self._device))
            self._changed()
