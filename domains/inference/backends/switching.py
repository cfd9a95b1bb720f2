"""One model in place of another of the same networks: the same modules, other numbers.

Every tensor stays at its address, so captured graphs, compiled code and measured numbers stay
valid. It begins only when main memory has all of the new weights, so that no bad file and no
slow disk can break it off.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import torch
from torch import nn

from domains.inference.backends.device import synchronize
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.model_loading import LoadProgress, PreparedModel
from domains.inference.backends.page_locks import page_locked
from domains.inference.backends.weight_source import WeightSource
from domains.model.backends.model_plan import NetworkPlan, Origin
from domains.model.backends.networks import stored_weights
from domains.session.types import TransferProgress
from domains.values import ModelOrigin


def can_become(model: LoadedModel, prepared: PreparedModel) -> bool:
    """Whether the networks of `model` can take the weights of `prepared`.

    They are of one architecture, of the same classes, configurations and shapes, and compute
    in the same data types.
    """
    if model.plan.architecture is not prepared.plan.architecture:
        return False
    if (model.precision, model.chosen) != (prepared.precision, prepared.chosen):
        return False
    theirs = {network.name: network for network in model.plan.networks}
    return len(theirs) == len(prepared.plan.networks) and all(
        network.name in theirs
        and _same(theirs[network.name], network)
        and (
            model.measured
            or _data_type(model.networks[network.name]) is prepared.data_type(network.name)
        )
        for network in prepared.plan.networks
    )


def become(
    model: LoadedModel,
    prepared: PreparedModel,
    source: WeightSource,
    *,
    emit: Callable[[TransferProgress], None],
) -> None:
    """Copy the weights of `prepared` into the networks of `model`, which is that model then.

    Nothing stops it: what has begun is finished, which takes as long as the copy.

    Args:
        model: One that `can_become` it.
        prepared: The other.
        source: Has all of its files in main memory.
        emit: Called with `TransferProgress`.

    Raises:
        Exception: As torch raises it. The networks are of neither model then.
    """
    source.lends = True
    progress = LoadProgress(prepared.plan.size_bytes, emit, lambda: None)
    with page_locked(model.device, source):
        for network in prepared.plan.networks:
            progress.start(network.name)
            module = model.networks[network.name]
            targets = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            for name, origin, stored in stored_weights(
                network, on_bytes=progress.add, open_bytes=source.open
            ):
                target = targets.get(name)
                if target is None:
                    target = targets[f"text_model.{name}"]
                _copy(target, stored, origin, prepared.data_type(network.name))
            progress.report()
        synchronize(model.device)
    model.model_id, model.place = prepared.model_id, prepared.place
    model.fingerprint, model.plan = prepared.fingerprint, prepared.plan
    model.tokenizers = prepared.tokenizers
    model.embeddings.clear()
    model.preview_matrix = None
    model.origin = ModelOrigin.CACHED
    model.load_time = datetime.now(UTC)


def _copy(
    target: torch.Tensor, stored: torch.Tensor, origin: Origin, data_type: torch.dtype
) -> None:
    """What `part_of` gives, converted as `fill` converts it, but on the device."""
    part = stored if origin.rows is None else stored[slice(*origin.rows)]
    plain = not origin.transposed and part.dtype is target.dtype is data_type
    if not plain:
        # Torch would convert on the processor, in memory that devices cannot fetch from.
        part = part.to(target.device, non_blocking=True)
    if origin.transposed:
        part = part.t()
    part = part.reshape(origin.shape)
    if part.dtype is not data_type:
        part = part.to(data_type)
    with torch.no_grad():
        target.copy_(part, non_blocking=True)


def _same(one: NetworkPlan, other: NetworkPlan) -> bool:
    keys = one.network_class.bounds.keys
    return (
        one.network_class is other.network_class
        and not any(origin.scale for origin in other.tensors.values())
        and all(one.config.get(key) == other.config.get(key) for key in keys)
        and {name: origin.shape for name, origin in one.tensors.items()}
        == {name: origin.shape for name, origin in other.tensors.items()}
    )


def _data_type(module: nn.Module) -> torch.dtype | None:
    types = {parameter.dtype for parameter in module.parameters()}
    return types.pop() if len(types) == 1 else None
