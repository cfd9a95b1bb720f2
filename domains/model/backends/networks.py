"""Networks from a checked plan: built empty, then filled tensor by tensor.

A network never runs with a weight that did not come from a file: every name and shape is
compared before the first byte of data is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from torch import nn

from domains.errors import Internal
from domains.model.backends.constructor import accepted_by
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.families.image_prompt import IMAGE_PROMPT
from domains.model.backends.file_bytes import OpenBytes, open_file
from domains.model.backends.library_errors import blamed_on
from domains.model.backends.model_plan import NetworkPlan, Origin
from domains.model.backends.stored_weights import incomplete, misshapen
from domains.model.backends.weights import part_of, read_tensors

# Loaded once there is an adapter: it brings much of diffusers.
_OURS = "domains.model.backends.image_prompt_adapter"


@dataclass(frozen=True)
class EmptyNetwork:
    """A network on the meta device, and what the module calls each tensor of its plan."""

    plan: NetworkPlan
    module: nn.Module
    names: dict[str, str]


def build_empty(plan: NetworkPlan) -> EmptyNetwork:
    """Build the network of `plan` without weights and match its tensors to the module's.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID when the parts do not fit each other;
            MODEL_INCOMPLETE when tensors are missing or unknown, naming a few;
            MODEL_SHAPE_INVALID when one has another shape than the network.
    """
    with blamed_on(plan.name, "config.json"), init_empty_weights(include_buffers=False):
        module = _construct(plan)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    names: dict[str, str] = {}
    unexpected: list[str] = []
    for name, origin in plan.tensors.items():
        # Versions of the library differ in where an encoder's layers are.
        named = (name, f"text_model.{name}", f"vision_model.{name}")
        known = next((each for each in named if each in wanted), None)
        if known is None:
            unexpected.append(origin.stored.name)
        elif wanted[known] != origin.shape:
            raise misshapen(plan.name, origin.stored.name)
        else:
            names[name] = known
    missing = sorted(set(wanted) - set(names.values()))
    if missing or unexpected:
        raise incomplete(plan.name, missing, unexpected)
    return EmptyNetwork(plan, module, names)


def stored_weights(
    network: NetworkPlan,
    *,
    on_bytes: Callable[[int], None],
    open_bytes: OpenBytes = open_file,
) -> Iterator[tuple[str, Origin, torch.Tensor]]:
    """Read what a network's weights come from, in the order of their files.

    Args:
        network: Its plan.
        on_bytes: Called as bytes are read, with their number; may raise to stop.
        open_bytes: Where a file's bytes come from.

    Yields:
        The plan's name of a tensor, its origin, and what is stored, times its scale where it
        has one, on the CPU; see `read_tensors`.

    Raises:
        FailedPrecondition: As `read_tensors`.
    """
    for file in network.files:
        wanted: dict[str, list[tuple[str, Origin]]] = defaultdict(list)
        for name, origin in network.tensors.items():
            if origin.file.name == file.name:
                wanted[origin.stored.name].append((name, origin))
        scales: dict[str, torch.Tensor] = {}
        # What is in no tensor's place is a scale, which is needed before what it scales.
        entries = sorted(
            network.entries(file).values(),
            key=lambda entry: (entry.name in wanted, entry.offset),
        )
        for entry, tensor in read_tensors(
            file, entries, on_bytes=on_bytes, open_bytes=open_bytes
        ):
            if entry.name not in wanted:
                scales[entry.name] = tensor.float()
                continue
            for name, origin in wanted[entry.name]:
                scaled = tensor
                if origin.scale is not None:
                    scaled = tensor.float() * scales[origin.scale.name]
                yield name, origin, scaled


def fill(
    network: EmptyNetwork,
    *,
    data_type: torch.dtype,
    device: torch.device,
    on_bytes: Callable[[int], None],
    open_bytes: OpenBytes = open_file,
) -> nn.Module:
    """Read the weights, convert them to `data_type` and place them on `device`.

    Args:
        network: From `build_empty`; its module is filled and returned, ready to run.
        data_type: For the floating-point tensors.
        device: Where the weights go, and are converted; what `open_bytes` lends must not stay
            theirs, so it lends nothing for the processor.
        on_bytes: Called as bytes are read, with their number; may raise to stop.
        open_bytes: Where a file's bytes come from.

    Raises:
        FailedPrecondition: As `read_tensors`.
    """
    module = network.module
    for name, origin, stored in stored_weights(
        network.plan, on_bytes=on_bytes, open_bytes=open_bytes
    ):
        tensor = part_of(stored, origin, device).to(data_type)
        _place(module, network.names[name], tensor)
    # Constants that are not stored were computed on the CPU while building.
    module.to(device)
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise Internal("A network was left without some of its weights.")
    return module.eval()


def class_of(wanted: NetworkClass) -> Any:
    """A network's class; the first time, the libraries import what it is made of."""
    if wanted is IMAGE_PROMPT:
        return import_module(_OURS).ImagePromptAdapter
    # The name is a family's and never a file's.
    library = diffusers if wanted.library == "diffusers" else transformers
    return getattr(library, wanted.name)


def _construct(plan: NetworkPlan) -> nn.Module:
    wanted, cls = plan.network_class, class_of(plan.network_class)
    known = {key: plan.config[key] for key in wanted.bounds.keys if key in plan.config}
    if wanted.library != "transformers":
        network = cls(**accepted_by(cls, known))
    else:
        with _without_first_numbers():
            network = cls(cls.config_class(**accepted_by(cls.config_class, known)))
    assert isinstance(network, nn.Module)
    return network


@contextmanager
def _without_first_numbers() -> Iterator[None]:
    """Transformers draws random numbers for every weight, also where there is no memory for
    them, which takes longer than building: here each weight comes from a file."""
    base: Any = transformers.PreTrainedModel
    drawing = base.init_weights
    base.init_weights = lambda _network: None
    try:
        yield
    finally:
        base.init_weights = drawing


def _place(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if leaf in owner._parameters:
        # As in diffusers' pipelines, though nobody computes gradients: torch multiplies
        # otherwise by weights that require them, and the last bits depend on it.
        learns = tensor.is_floating_point()
        setattr(owner, leaf, nn.Parameter(tensor, requires_grad=learns))
    else:
        setattr(owner, leaf, tensor)
