"""Having models ready on one device: found there, or loaded where there is room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.device.backends import faults
from domains.device.backends.torch_gauge import in_main_memory
from domains.inference.backends.clock import Clock
from domains.inference.backends.compiled.shelf import CodeShelf, can_compile
from domains.inference.backends.device import release_memory
from domains.inference.backends.loaded import Loaded
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loaded_models import MOST_MODELS, LoadedModels
from domains.inference.backends.loaded_network import LoadedNetwork
from domains.inference.backends.lora_shelf import LoraShelf
from domains.inference.backends.model_loading import (
    PreparedModel,
    build_networks,
    load_weights,
    prepare_model,
    state_of,
)
from domains.inference.backends.network_loading import (
    build_network,
    load_network,
    prepare_network,
)
from domains.inference.backends.profiles import ProfileSettings, bring_into
from domains.inference.backends.room import fits_beside, missing_beside, picture_bytes
from domains.inference.backends.second_try import with_room
from domains.inference.backends.switching import become, can_become
from domains.inference.backends.vae_part import Vae
from domains.inference.backends.wanted import WantedModel
from domains.inference.backends.weight_source import WeightSource
from domains.inference.types import PrecisionMode
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted
from domains.values import ModelOrigin, ModelPlace

# Models whose headers and tokenizers are kept, read and checked.
_MOST_KNOWN = 8
Held = TypeVar("Held", bound=Loaded)


@dataclass(frozen=True)
class Ready(Generic[Held]):
    """A model that is loaded, and where it was when work asked for it."""

    model: Held
    origin: ModelOrigin


class Loader:
    """Has models ready on a device. For the main thread alone.

    Several stay while there is room for their weights and for a picture of the largest of
    them; the least recently used gives way first.

    Args:
        device: Where.
        changed: Called when other models are there than before.
        code_dir: Where compiled code is kept; None: nothing is compiled.
    """

    def __init__(
        self, device: torch.device, changed: Callable[[], None], code_dir: Path | None = None
    ) -> None:
        self.device = device
        self._changed = changed
        self._known: dict[tuple[object, ...], PreparedModel] = {}
        self.models = LoadedModels()
        self.loras = LoraShelf(device)
        self.upscalers = UpscalerShelf(device)
        self.code = None if code_dir is None or not can_compile() else CodeShelf(code_dir)
        self.settings = ProfileSettings()
        """What the device's profile decides for all of them."""

    def ready(
        self, wanted: WantedModel, context: JobContext, clock: Clock
    ) -> Ready[LoadedModel]:
        """A checkpoint or refiner, loaded if it is not there; its seconds are `clock`'s `load`.

        It stays until the work ends, whatever the work loads beside it. What cannot be loaded
        costs nothing: the others stay, unless memory did not suffice for them beside it.

        Raises:
            DomainError: As `prepare_model` and `load_weights`.
            Exception: As torch raises it.
        """
        there = self._unchanged(wanted)
        if isinstance(there, LoadedModel) and there.serves(wanted, self._precision(wanted)):
            return Ready(self._claimed(there), ModelOrigin.LOADED)
        del there
        context.emit(PhaseStarted(Phase.LOADING_MODEL))
        with clock.time("load"):
            prepared = self.prepared(wanted, context)
            source = self._source(wanted)
            fresh = self._switched(prepared, source, context)
            fresh = fresh or self._loaded(prepared, source, context)
            fresh.others_make_room = self.let_go
            bring_into(fresh, self.settings, self.code)
        return Ready(self._claimed(fresh), fresh.origin)

    def ready_beside(
        self, wanted: WantedModel, working: int, context: JobContext, clock: Clock
    ) -> Ready[LoadedModel] | None:
        """As `ready`; None where it has no room beside what the work has ready already.

        Args:
            wanted: The model.
            working: Bytes that the work takes beside weights.
            context: Hears of it.
            clock: Its `load` is the time.

        Raises:
            DomainError: As `ready`.
        """
        needed = self.prepared(wanted, context).needed_bytes + working
        missing = missing_beside(needed, self.device)
        idle = (one.size_bytes for one in self.models if not self.models.is_claimed(one))
        loaded = self.models.at(wanted.place) is not None
        if missing is not None and missing > sum(idle) and not loaded:
            return None
        try:
            return self.ready(wanted, context, clock)
        except Exception as error:
            if not faults.is_shortage(error):
                raise
            faults.drop_frames(error)
        release_memory(self.device)
        return None

    def prepared(self, wanted: WantedModel, context: JobContext) -> PreparedModel:
        """What is known of a model without its weights.

        Raises:
            DomainError: As `prepare_model`.
        """
        return self._prepared(wanted, self._precision(wanted), context)

    def ready_network(
        self, wanted: WantedModel, context: JobContext, clock: Clock
    ) -> Ready[LoadedNetwork]:
        """A model that is one network, likewise: beside what the work has ready already.

        Raises:
            DomainError: As `prepare_network` and `load_network`.
            Exception: As torch raises it.
        """
        there = self._unchanged(wanted)
        if isinstance(there, LoadedNetwork) and there.serves(wanted):
            return Ready(self._claimed(there), ModelOrigin.LOADED)
        del there
        context.emit(PhaseStarted(Phase.LOADING_MODEL))
        with clock.time("load"):
            context.check_stop()
            prepared = prepare_network(wanted, self.device)
            context.check_stop()
            empty, source = build_network(prepared), self._source(wanted)

            def load() -> LoadedNetwork:
                return load_network(
                    prepared, empty, source, emit=context.emit, check_stop=context.check_stop
                )

            fresh = self._placed(wanted.place, prepared.needed_bytes, 0, load)
        return Ready(self._claimed(fresh), fresh.origin)

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

    def make_room_for_picture(self, vae: Vae, width: int, height: int) -> None:
        """Let LoRAs, upscalers and models go that the work does not use, of those the least
        recently used first, until a picture fits."""
        needed = picture_bytes(vae.config, width, height, vae.numerics.data_type)
        if fits_beside(needed, self.device):
            return
        small = (*self.loras.let_go(), *self.upscalers.let_go())
        if small or len(self.models) > 1:
            release_memory(self.device)
            self.models.let_go_until(lambda: fits_beside(needed, self.device))
            self._changed()

    def let_go(self) -> None:
        """Let every model go that no work needs, LoRAs and upscalers, and what can be recorded
        again."""
        self.loras.let_go()
        self.upscalers.let_go()
        for model in self.models:
            if isinstance(model, LoadedModel):
                model.graphs.let_go()
        self.models.let_go_until(lambda: False)
        self._changed()

    def give_way(self, model: LoadedModel, kept: frozenset[str]) -> None:
        """Let a model go in the middle of its work, which goes on with the `kept` networks:
        they last as long as that holds on to the model."""
        model.graphs.let_go()
        for name in model.networks.keys() - kept:
            del model.networks[name]
        self.models.let_go(lambda one: one is model)
        self._changed()

    def let_go_of(self, place: ModelPlace) -> None:
        """Let the model of that place go, if it is there."""
        self.models.let_go(lambda one: one.place == place)
        self._changed()

    def apply(self, settings: ProfileSettings) -> None:
        """Run with these settings from here on."""
        self.settings = settings
        for model in self.models:
            if isinstance(model, LoadedModel):
                bring_into(model, settings, self.code)

    def _precision(self, wanted: WantedModel) -> PrecisionMode:
        """How the model is to compute, where that is left open too."""
        if wanted.precision is PrecisionMode.OPEN:
            return self.settings.open_precision
        return wanted.precision

    def _unchanged(self, wanted: WantedModel) -> Loaded | None:
        """What was loaded from there, if its files are as they were; it may make room for
        another version of itself until that is claimed."""
        self.models.unclaim(wanted.place)
        there = self.models.at(wanted.place)
        if there is None or there.fingerprint != state_of(wanted.model_id, wanted.place):
            return None
        there.model_id = wanted.model_id  # the catalogue may name that place anew
        return there

    def _claimed(self, model: Held) -> Held:
        self.models.use(model)
        self.models.claim(model.place)
        return model

    def _source(self, wanted: WantedModel) -> WeightSource:
        # What is made for the processor would go on using what is lent.
        return WeightSource(wanted.cached, lends=not in_main_memory(self.device))

    def _prepared(
        self, wanted: WantedModel, precision: PrecisionMode, context: JobContext
    ) -> PreparedModel:
        """The model with everything checked that needs no weights; known ones are kept."""
        if wanted.data_types:
            precision = PrecisionMode.OPEN
        key = (wanted.model_id, wanted.place, wanted.type, precision, wanted.data_types)
        known = self._known.pop(key, None)
        if known is None or known.fingerprint != state_of(wanted.model_id, wanted.place):
            known = prepare_model(
                wanted.model_id,
                wanted.place,
                precision,
                self.device,
                data_types=wanted.data_types,
                check_stop=context.check_stop,
                type=wanted.type,
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
        candidates: list[Loaded] = []
        missing = missing_beside(wanted, self.device)
        for model in self.models:
            if missing is not None and missing <= 0:
                break
            if not self.models.is_claimed(model):
                candidates.append(model)
                missing = None if missing is None else missing - model.size_bytes
        whole = (one for one in candidates if isinstance(one, LoadedModel))
        chosen = next((one for one in whole if can_become(one, prepared)), None)
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

        return self._placed(prepared.place, prepared.needed_bytes, prepared.picture_bytes, load)

    def _placed(
        self, place: ModelPlace, needed: int, working: int, load: Callable[[], Held]
    ) -> Held:
        """What `load` gives, where there is room for it and, beside it, for what it works with.

        Args:
            place: From where it is loaded; it takes the place of what came from there before.
            needed: Bytes of its weights.
            working: Bytes that work with it takes beside them.
            load: Reads the weights; must give the same result every time.
        """
        self._make_room(needed)
        fresh = with_room(load, self.let_go)
        self.models.let_go(lambda one: one.place == place)
        self.models.use(fresh)
        self.models.claim(place)
        crowded = len(self.models) > MOST_MODELS
        if crowded or not fits_beside(working, self.device):
            release_memory(self.device)
            self.models.let_go_until(
                lambda: len(self.models) <= MOST_MODELS and fits_beside(working, self.device)
            )
        self._changed()
        return fresh

    def _make_room(self, needed: int) -> None:
        """Let models go until the weights fit; none where they fit beside all."""
        if fits_beside(needed, self.device):
            return
        if self.upscalers.let_go() or len(self.models):
            release_memory(self.device)
            self.models.let_go_until(lambda: fits_beside(needed, self.device))
            self._changed()
