"""A model from disk onto the device, whole or not at all: first checked, then read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from domains import heap
from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.device import Numerics, traits_of
from domains.inference.backends.dry_run import try_networks
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.precision import (
    check_supported,
    chosen_numerics,
    chosen_type,
    vae_numerics,
)
from domains.inference.backends.recent import Recent
from domains.inference.backends.room import check_possible, picture_bytes
from domains.inference.backends.tokenizing import Tokenizer, build_tokenizer
from domains.inference.backends.weight_source import WeightSource
from domains.inference.types import PrecisionMode
from domains.model.backends.bounds import Config
from domains.model.backends.confined_files import ConfinedFiles, Fingerprint
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.families.registry import FAMILIES
from domains.model.backends.model_plan import ModelPlan
from domains.model.backends.networks import EmptyNetwork, build_empty, class_of, fill
from domains.model.backends.plans import fingerprint, plan_whole
from domains.model.backends.sizes import latent_size, pixels_per_latent
from domains.model.backends.tokenizer_files import TokenizerPlan
from domains.model.errors import ModelNotFound
from domains.model.types import ModelType
from domains.session.types import TransferProgress
from domains.shortages import shortage_of
from domains.values import NETWORK_PARTS, ModelPart, ModelPlace, PartDataType

# At most so many progress events per model; a stop is looked for as often.
_REPORTS = 100
_LEAST_REPORT_BYTES = 1 << 20
_TOKENIZERS: Recent[tuple[TokenizerPlan, Config], Tokenizer] = Recent(4)
_TRIED: Recent[tuple[list[str], Mapping[str, Config]], None] = Recent(8)


@dataclass(frozen=True)
class PreparedModel:
    """A model whose files are checked by their headers; it takes no memory.

    `needed_bytes` is what its weights will take on the device.
    """

    model_id: str
    place: ModelPlace
    precision: PrecisionMode
    device: torch.device
    fingerprint: Fingerprint
    plan: ModelPlan
    tokenizers: dict[str, Tokenizer]
    unet_numerics: Numerics
    vae_numerics: Numerics
    chosen: tuple[PartDataType, ...] = ()

    def data_type(self, network: str) -> torch.dtype:
        """What a network's weights are converted to."""
        types = {
            "unet": self.unet_numerics.data_type,
            "vae": self.vae_numerics.data_type,
        }
        text = chosen_type(self.chosen, NETWORK_PARTS[network])
        return types.get(network, text or traits_of(self.device).text_data_type)

    @property
    def picture_bytes(self) -> int:
        """What one picture of its native size will take beside its weights: an estimate. None
        for a refiner that decodes nothing itself."""
        configs = self.plan.configs
        if "vae" not in configs:
            return 0
        height, width = (
            int(edge) * pixels_per_latent(configs["vae"])
            for edge in latent_size(configs["unet"])
        )
        return picture_bytes(configs["vae"], width, height, self.vae_numerics.data_type)

    @property
    def needed_bytes(self) -> int:
        """See the class."""
        return sum(
            network.parameter_count * self.data_type(network.name).itemsize
            for network in self.plan.networks
        )


def prepare_model(
    model_id: str,
    place: ModelPlace,
    precision: PrecisionMode,
    device: torch.device,
    *,
    check_stop: Callable[[], None],
    data_types: tuple[PartDataType, ...] = (),
    type: ModelType = ModelType.CHECKPOINT,
) -> PreparedModel:
    """Check everything of the model at `place` that can be checked without weights.

    A model that cannot be used is refused here, in a second or two at most.

    Args:
        model_id: What it is called elsewhere.
        place: A folder in the diffusers layout or a checkpoint in one file. Every file is
            judged when it is opened: the scan that found it may be seconds old.
        precision: Both start from the same exact numbers; speed is measured later.
        device: Where the networks will go.
        check_stop: Called around each component.
        data_types: Of the parts for which somebody chose one.
        type: CHECKPOINT or REFINER.

    Raises:
        ModelNotFound: It is no longer there.
        FailedPrecondition: As `plan_whole` and `build_tokenizer`; MODEL_INCOMPLETE also
            where the machine cannot read a file;
            DEVICE_UNSUPPORTED for a data type that the device does not compute in.
        PathOutsideRoot: A part of it is a link that leads outside its root.
        ResourceExhausted: No such device could ever hold it.
    """
    check_stop()
    check_supported(data_types, device)
    state = state_of(model_id, place)
    with read_by_the_machine():
        plan = plan_whole(ConfinedFiles(place), type)
    configs = {network.name: network.config for network in plan.networks}
    tokenizers = {
        name: _tokenizer(tokenizer, configs[tokenizer.encoder])
        for name, tokenizer in plan.tokenizers.items()
        if tokenizer.encoder in configs  # one that is borrowed comes with its tokenizer
    }
    check_stop()
    traits = traits_of(device)
    prepared = PreparedModel(
        model_id=model_id,
        place=place,
        precision=precision,
        device=device,
        fingerprint=state,
        plan=replace(plan, tokenizers={}),
        tokenizers=tokenizers,
        unet_numerics=chosen_numerics(data_types, ModelPart.DENOISER) or traits.exact,
        vae_numerics=chosen_numerics(data_types, ModelPart.VAE)
        or (vae_numerics(traits, configs["vae"]) if "vae" in configs else traits.exact),
        chosen=data_types,
    )
    check_possible(prepared.needed_bytes, device)
    return prepared


def build_networks(
    prepared: PreparedModel, *, check_stop: Callable[[], None]
) -> tuple[EmptyNetwork, ...]:
    """The networks of a prepared model, without weights; tried once without numbers.

    Args:
        prepared: From `prepare_model`.
        check_stop: Called around each component.

    Raises:
        FailedPrecondition: As `build_empty` and `try_networks`.
    """
    import_classes(*(network.network_class for network in prepared.plan.networks))
    empty = []
    for network in prepared.plan.networks:
        check_stop()
        empty.append(build_empty(network))
    check_stop()
    configs = prepared.plan.configs
    modules = {network.plan.name: network.module for network in empty}
    # Of the same networks with the same configurations comes the same.
    _TRIED.get((list(modules), configs), lambda: try_networks(modules, configs))
    return tuple(empty)


def _tokenizer(plan: TokenizerPlan, encoder: Config) -> Tokenizer:
    """A tokenizer; models of one family mostly share theirs."""
    return _TOKENIZERS.get((plan, encoder), lambda: build_tokenizer(plan, encoder))


def load_weights(
    prepared: PreparedModel,
    empty: tuple[EmptyNetwork, ...],
    source: WeightSource,
    *,
    emit: Callable[[TransferProgress], None],
    check_stop: Callable[[], None],
) -> LoadedModel:
    """Read the weights of a prepared model onto its device.

    Args:
        prepared: From `prepare_model`.
        empty: Its networks, from `build_networks`; they become the model's.
        source: Where its files' bytes are.
        emit: Called with `TransferProgress`.
        check_stop: Called before each component and while reading large ones.

    Raises:
        FailedPrecondition: As `fill`.
    """
    progress = LoadProgress(prepared.plan.size_bytes, emit, check_stop)
    networks = {}
    for network in empty:
        name = network.plan.name
        data_type = prepared.data_type(name)
        networks[name] = read_weights(network, data_type, prepared.device, source, progress)
    return LoadedModel(
        model_id=prepared.model_id,
        place=prepared.place,
        precision=prepared.precision,
        fingerprint=prepared.fingerprint,
        plan=prepared.plan,
        device=prepared.device,
        networks=networks,
        tokenizers=prepared.tokenizers,
        unet_numerics=prepared.unet_numerics,
        vae_numerics=prepared.vae_numerics,
        chosen=prepared.chosen,
        origin=source.origin,
    )


def import_classes(*own: NetworkClass) -> None:
    """Have the libraries import what networks are made of: those of every family, and `own`.

    For before the first network is built, since that will go again: what is imported later
    would be looked through with every collection of garbage.
    """
    families = (each for family in FAMILIES for each in family.networks.values())
    for each in (*own, *families):
        class_of(each)
    heap.settle()


def read_weights(
    network: EmptyNetwork,
    data_type: torch.dtype,
    device: torch.device,
    source: WeightSource,
    progress: LoadProgress,
) -> nn.Module:
    """Read one network's weights onto a device and tell how far it is.

    Raises:
        FailedPrecondition: As `fill`; MODEL_INCOMPLETE where the machine cannot read a file.
    """
    progress.start(network.plan.name)
    with read_by_the_machine():
        module = fill(
            network,
            data_type=data_type,
            device=device,
            on_bytes=progress.add,
            open_bytes=source.open,
        )
    progress.report()
    return module


def state_of(model_id: str, place: ModelPlace) -> Fingerprint:
    """The state of a model's files, to notice that one changed.

    Raises:
        ModelNotFound: It is no longer there.
        FailedPrecondition: MODEL_INCOMPLETE, where it cannot be read.
        PathOutsideRoot: A part of it is a link that leads outside its root.
    """
    files = ConfinedFiles(place)
    with read_by_the_machine():
        if not files.exists():
            raise ModelNotFound(model_id, "its files are no longer in the model folder.")
        return fingerprint(files)


@contextmanager
def read_by_the_machine() -> Iterator[None]:
    """A machine that cannot read a file of the model as the reason that there is none."""
    try:
        yield
    except OSError as error:
        if shortage_of(error) is not None:
            raise
        raise FailedPrecondition(
            f"A file of the model cannot be read at the moment: {error.strerror}. Look at "
            "the disk that it lies on.",
            reason=Reason.MODEL_INCOMPLETE,
        ) from error


class LoadProgress:
    """Counts bytes of a whole model, `total` in all, and reports now and then."""

    def __init__(
        self,
        total: int,
        emit: Callable[[TransferProgress], None],
        check_stop: Callable[[], None],
    ) -> None:
        self._emit = emit
        self._check_stop = check_stop
        self._total = total
        self._interval = max(self._total // _REPORTS, _LEAST_REPORT_BYTES)
        self._component = ""
        self._done = 0
        self._reported = 0

    def start(self, component: str) -> None:
        """Bytes belong to `component` from here on."""
        self._component = component
        self._check_stop()

    def add(self, count: int) -> None:
        """Count bytes read; report and look for a stop when enough have come together."""
        self._done += count
        if self._done - self._reported >= self._interval:
            self.report()

    def report(self) -> None:
        """Report how far it is and look for a stop."""
        if self._reported != self._done:
            self._reported = self._done
            self._emit(TransferProgress(self._component, self._done, self._total))
        self._check_stop()
