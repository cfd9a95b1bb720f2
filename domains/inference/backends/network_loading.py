"""A network that is a model of its own from disk onto the device, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from domains.inference.backends.device import Numerics, traits_of
from domains.inference.backends.dry_run import try_network
from domains.inference.backends.loaded_network import LoadedNetwork
from domains.inference.backends.model_loading import (
    LoadProgress,
    import_classes,
    read_by_the_machine,
    read_weights,
    state_of,
)
from domains.inference.backends.precision import (
    check_supported,
    chosen_numerics,
    vae_numerics,
)
from domains.inference.backends.room import check_possible
from domains.inference.backends.wanted import WantedModel
from domains.inference.backends.weight_source import WeightSource
from domains.model.backends.confined_files import ConfinedFiles, Fingerprint
from domains.model.backends.model_plan import NetworkPlan
from domains.model.backends.networks import EmptyNetwork, build_empty
from domains.model.backends.plans import plan_lone
from domains.model.types import ModelType
from domains.session.types import TransferProgress
from domains.values import NETWORK_PARTS


@dataclass(frozen=True)
class PreparedNetwork:
    """A network whose files are checked by their headers; it takes no memory."""

    wanted: WantedModel
    device: torch.device
    fingerprint: Fingerprint
    plan: NetworkPlan
    numerics: Numerics

    @property
    def needed_bytes(self) -> int:
        """What its weights will take on the device."""
        return self.plan.parameter_count * self.numerics.data_type.itemsize


def prepare_network(wanted: WantedModel, device: torch.device) -> PreparedNetwork:
    """Check everything of a network that can be checked without weights.

    Args:
        wanted: The model, of a type that is one network.
        device: Where it will go.

    Raises:
        ModelNotFound: It is no longer there.
        FailedPrecondition: As `plan_lone`; MODEL_INCOMPLETE also where the machine cannot
            read a file; DEVICE_UNSUPPORTED for a data type that the device does not compute in.
        PathOutsideRoot: A part of it is a link that leads outside its root.
        ResourceExhausted: No such device could ever hold it.
    """
    check_supported(wanted.data_types, device)
    state = state_of(wanted.model_id, wanted.place)
    with read_by_the_machine():
        plan = plan_lone(ConfinedFiles(wanted.place), wanted.type)
    prepared = PreparedNetwork(wanted, device, state, plan, _numerics(wanted, plan, device))
    check_possible(prepared.needed_bytes, device)
    return prepared


def build_network(prepared: PreparedNetwork) -> EmptyNetwork:
    """The network without weights, tried once without numbers.

    Raises:
        FailedPrecondition: As `build_empty` and `try_network`.
    """
    import_classes(prepared.plan.network_class)
    empty = build_empty(prepared.plan)
    try_network(prepared.plan.name, empty.module, prepared.plan.config)
    return empty


def load_network(
    prepared: PreparedNetwork,
    empty: EmptyNetwork,
    source: WeightSource,
    *,
    emit: Callable[[TransferProgress], None],
    check_stop: Callable[[], None],
) -> LoadedNetwork:
    """Read the weights of a prepared network onto its device.

    Args:
        prepared: From `prepare_network`.
        empty: From `build_network`; it becomes the model's.
        source: Where its files' bytes are.
        emit: Called with `TransferProgress`.
        check_stop: Called before and while reading.

    Raises:
        FailedPrecondition: As `fill`.
    """
    plan, wanted = prepared.plan, prepared.wanted
    progress = LoadProgress(plan.size_bytes, emit, check_stop)
    data_type = prepared.numerics.data_type
    module = read_weights(empty, data_type, prepared.device, source, progress)
    return LoadedNetwork(
        model_id=wanted.model_id,
        place=wanted.place,
        fingerprint=prepared.fingerprint,
        device=prepared.device,
        networks={plan.name: module},
        chosen=wanted.data_types,
        origin=source.origin,
        type=wanted.type,
        plan=plan,
        numerics=prepared.numerics,
    )


def _numerics(wanted: WantedModel, plan: NetworkPlan, device: torch.device) -> Numerics:
    """As the part of a checkpoint in whose place it works computes."""
    chosen = chosen_numerics(wanted.data_types, NETWORK_PARTS[plan.name])
    if chosen is not None:
        return chosen
    traits = traits_of(device)
    if wanted.type is ModelType.VAE:
        return vae_numerics(traits, plan.config)
    if wanted.type in (ModelType.TEXT_ENCODER, ModelType.IMAGE_ENCODER):
        return Numerics(traits.text_data_type)
    return traits.exact
