"""Having models ready on one device: found there, or loaded where there is room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from domains.device.backends.torch_gauge import in_main_memory
from domains.inference.backends.device import release_memory
from domains.inference.backends.drawing import Clock
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loaded_models import MOST_MODELS, LoadedModels
from domains.inference.backends.model_loading import (
    PreparedModel,
    build_networks,
    load_weights,
    prepare_model,
    state_of,
)
from domains.inference.backends.profiles import ProfileSettings, bring_into
from domains.inference.backends.room import fits_beside, missing_beside, picture_bytes
from domains.inference.backends.second_try import with_room
from domains.inference.backends.switching import become, can_become
from domains.inference.backends.weight_source import WeightSource
from domains.inference.types import PrecisionMode
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted
from domains.values import CachedModel, ModelOrigin, ModelPlace, PartDataType

# Models whose headers and tokenizers are kept, read and checked.
_MOST_KNOWN = 8


@dataclass(frozen=True)
class WantedModel:
    """A model that work needs.

    `data_types` are those of its parts that somebody chose, `cached` is what main memory has
    of it.
    """

    model_id: str
    place: ModelPlace
    precision: PrecisionMode = PrecisionMode.OPEN
    data_types: tuple[PartDataType, ...] = ()
    cached: CachedModel | None = None

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
        self.device = device
        self._changed = changed
        self._known: dict[tuple[object, ...], PreparedModel] = {}
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
            prepared = self._prepared(wanted, precision, context)
            # What is made for the processor would go on using what is lent.
            source = WeightSource(wanted.cached, lends=not in_main_memory(self.device))
            fresh = self._switched(prepared, source, context)
            fresh = fresh or self._loaded(prepared, source, context)
            # By its place: a model that knows itself would not go with its last user.
            fresh.others_make_room = lambda: self.let_go(keep=self.models.at(wanted.place))
            bring_into(fresh, self.settings)
        return ReadyModel(fresh, fresh.origin)

    def switch_again(
        self, model: LoadedModel, wanted: WantedModel, context: JobContext
    ) -> bool:
        """Copy a model's own weights from main memory into its networks, as another's would be.

        Returns:
            Whether that was done; it is not where main memory does not have all of them.
        """
        prepared = self._prepared(wanted, model.precision, context)
        source = WeightSource(wanted.cached)
        if not source.has_all(prepared.plan) or not can_become(model, prepared):
            return False
        self._become(model, prepared, source, context)
        return True

    def make_room_for_picture(self, model: LoadedModel, width: int, height: int) -> None:
        """Let other models go, the least recently used first, until a picture fits."""
        needed = picture_bytes(
            model.plan_config("vae"), width, height, model.vae_numerics.data_type
        )
        if len(self.models) > 1 and not fits_beside(needed, self.device):
            release_memory(self.device)
            self.models.let_go_until(lambda: fits_beside(needed, self.device), keep=model)
            self._changed()

    def let_go(self, *, keep: LoadedModel | None = None) -> None:
        """Let every model go but one."""
        self.models.let_go_until(lambda: False, keep=keep)
        self._changed()

    def let_go_of(self, place: ModelPlace) -> None:
        """Let the model of that place go, if it is there."""
        self.models.let_go(lambda one: one.place == place)
        self._changed()

    def apply(self, settings: ProfileSettings) -> None:
        """Run with these settings from here on."""
        self.settings = settings
        for model in self.models:
            bring_into(model, settings)

    def _prepared(
        self, wanted: WantedModel, precision: PrecisionMode, context: JobContext
    ) -> PreparedModel:
        """The model with everything checked that needs no weights; known ones are kept."""
        if wanted.data_types:
            precision = PrecisionMode.OPEN
        key = (wanted.model_id, wanted.place, precision, wanted.data_types)
        known = self._known.pop(key, None)
        if known is None or known.fingerprint != state_of(wanted.model_id, wanted.place):
            known = prepare_model(
                wanted.model_id,
                wanted.place,
                precision,
                self.device,
                data_types=wanted.data_types,
                check_stop=context.check_stop,
            )
        self._known[key] = known
        while len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return known

    def _switched(
        self, prepared: PreparedModel, source: WeightSource, context: JobContext
    ) -> LoadedModel | None:
        """The model in the place of one that has to give way for it, if there is such a one."""
        wanted = prepared.needed_bytes + prepared.picture_bytes
        candidates = []
        missing = missing_beside(wanted, self.device)
        for model in self.models:
            if missing is not None and missing <= 0:
                break
            candidates.append(model)
            missing = None if missing is None else missing - model.size_bytes
        chosen = next((one for one in candidates if can_become(one, prepared)), None)
        if chosen is None or not source.has_all(prepared.plan):
            return None
        context.check_stop()
        self._become(chosen, prepared, source, context)
        self.models.let_go(lambda one: one is not chosen and one.place == prepared.place)
        self.models.use(chosen)
        self._changed()
        return chosen

    def _become(
        self,
        model: LoadedModel,
        prepared: PreparedModel,
        source: WeightSource,
        context: JobContext,
    ) -> None:
        try:
            become(model, prepared, source, emit=context.emit)
        except BaseException:
            # Its networks hold some of one and some of the other.
            self.let_go_of(model.place)
            raise

    def _loaded(
        self, prepared: PreparedModel, source: WeightSource, context: JobContext
    ) -> LoadedModel:
        """The model with its weights, beside the others where there is room."""
        networks = build_networks(prepared, check_stop=context.check_stop)

        def load() -> LoadedModel:
            return load_weights(
                prepared, networks, source, emit=context.emit, check_stop=context.check_stop
            )

        self._make_room(prepared)
        fresh = with_room(load, self.let_go)
        self.models.let_go(lambda one: one.place == prepared.place)
        self.models.use(fresh)
        wanted = prepared.picture_bytes
        crowded = len(self.models) > MOST_MODELS
        if crowded or not fits_beside(wanted, self.device):
            release_memory(self.device)
            self.models.let_go_until(
                lambda: len(self.models) <= MOST_MODELS and fits_beside(wanted, self.device),
                keep=fresh,
            )
        self._changed()
        return fresh

    def _make_room(self, prepared: PreparedModel) -> None:
        """Let models go until the weights fit; none where they fit beside all."""
        needed = prepared.needed_bytes
        if len(self.models) and not fits_beside(needed, self.device):
            release_memory(self.device)
            self.models.let_go_until(lambda: fits_beside(needed, self.device))
            self._changed()
