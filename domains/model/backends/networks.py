"""Networks from a checked plan: built empty, then filled tensor by tensor.

A network never runs with a weight that did not come from a file: every name and shape is
compared before the first byte of data is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from torch import nn

from domains.errors import Internal
from domains.model.backends.constructor import accepted_by
from domains.model.backends.diffusers_folder import NetworkPlan
from domains.model.backends.library_errors import blamed_on
from domains.model.backends.stored_weights import POSITION_IDS, incomplete, misshapen
from domains.model.backends.weights import read_tensors

# Names of the VAE's attention before diffusers 0.12, still found in files.
_OLD_VAE_NAMES = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}


@dataclass(frozen=True)
class EmptyNetwork:
    """A network on the meta device and where each stored tensor goes in it."""

    plan: NetworkPlan
    module: nn.Module
    names: dict[str, str]


def build_empty(plan: NetworkPlan) -> EmptyNetwork:
    """Build the network of `plan` without weights and match its files to it.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID when the parts do not fit each other;
            MODEL_INCOMPLETE when tensors are missing or unknown, naming a few;
            MODEL_SHAPE_INVALID when one has another shape than the network.
    """
    with blamed_on(plan.name, "config.json"), init_empty_weights(include_buffers=False):
        module = _construct(plan)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    names: dict[str, str] = {}
    taken: set[str] = set()
    unexpected: list[str] = []
    for file in plan.files:
        for entry in file.header.tensors:
            target = _target_name(entry.name, wanted)
            if target is None and entry.name.endswith(POSITION_IDS):
                continue
            if target is None or target in taken:
                unexpected.append(entry.name)
            elif wanted[target] != entry.shape:
                raise misshapen(plan.name, entry.name)
            else:
                names[entry.name] = target
                taken.add(target)
    missing = sorted(set(wanted) - taken)
    if missing or unexpected:
        raise incomplete(plan.name, missing, unexpected)
    return EmptyNetwork(plan, module, names)


def fill(
    network: EmptyNetwork,
    *,
    data_type: torch.dtype,
    device: torch.device,
    on_bytes: Callable[[int], None],
) -> nn.Module:
    """Read the weights, convert them to `data_type` and place them on `device`.

    Args:
        network: From `build_empty`; its module is filled and returned, ready to run.
        data_type: For the floating-point tensors.
        device: Where the weights go, after conversion on the CPU.
        on_bytes: Called as bytes are read, with their number; may raise to stop.

    Raises:
        FailedPrecondition: As `read_tensors`.
    """
    module = network.module
    for file in network.plan.files:
        for stored, tensor in read_tensors(file, on_bytes=on_bytes):
            target = network.names.get(stored)
            if target is None:
                continue
            if tensor.is_floating_point():
                tensor = tensor.to(data_type)
            _place(module, target, tensor.to(device))
    # Constants that are not stored were computed on the CPU while building.
    module.to(device)
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise Internal("A network was left without some of its weights.")
    module.requires_grad_(False)
    return module.eval()


def _construct(plan: NetworkPlan) -> nn.Module:
    # The name is a family's and never a file's.
    wanted = plan.network_class
    known = {key: plan.config[key] for key in wanted.bounds.keys if key in plan.config}
    if wanted.library == "diffusers":
        cls: Any = getattr(diffusers, wanted.name)
        network = cls(**accepted_by(cls, known))
    else:
        cls = getattr(transformers, wanted.name)
        network = cls(cls.config_class(**accepted_by(cls.config_class, known)))
    assert isinstance(network, nn.Module)
    return network


def _target_name(stored: str, wanted: dict[str, tuple[int, ...]]) -> str | None:
    """Where a stored tensor goes; library versions differ in prefixes and old names."""
    candidates = [stored, stored.removeprefix("text_model."), f"text_model.{stored}"]
    for old, new in _OLD_VAE_NAMES.items():
        if old in stored:
            candidates.append(stored.replace(old, new))
    return next((name for name in candidates if name in wanted), None)


def _place(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if leaf in owner._parameters:
        setattr(owner, leaf, nn.Parameter(tensor, requires_grad=False))
    else:
        setattr(owner, leaf, tensor)
