"""What code is to be made for: a network and the form of its inputs, as a value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from domains.codec import Value, encode_json
from domains.device.backends.torch_gauge import backend_of

_FORMAT = 3
"""Changes whenever code made for the same order is to be made anew."""
# Arguments of denoisers that all steps of a picture share, as a rule.
_STEADY = ("encoder_hidden_states", "added_cond_kwargs")


class TensorForm(Value, frozen=True):
    """A tensor without its numbers."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    data_type: str

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorForm:
        """A tensor's."""
        return cls(
            tuple(tensor.shape),
            tuple(tensor.stride()),
            str(tensor.dtype).removeprefix("torch."),
        )


Leaf = TensorForm | str | bool | int | float | None
"""One of the arguments; those that are no tensors are part of the code."""


class CodeOrder(Value, frozen=True):
    """A network of diffusers, and the arguments that it is called with.

    `config` is the network's own, as JSON; `part` the path of the module in it that is meant,
    empty for the whole. `form` tells how `leaves` make up arguments, `steady` for each tensor
    among them whether it is the same in all steps of a picture. `machine` is all that code made
    here depends on beside these.
    """

    network: str
    config: str
    part: str
    data_type: str
    channels_last: bool
    device: str
    form: str
    leaves: tuple[Leaf, ...]
    steady: tuple[bool, ...]
    machine: str

    @property
    def key(self) -> str:
        """Its name: another one for whatever needs other code."""
        return sha256(encode_json(self)).hexdigest()


@dataclass(frozen=True)
class Subject:
    """A module of a network, of which code is made.

    `root` is the network it is in, `part` its path there; `channels_last` how weights lie.
    """

    root: nn.Module
    part: str
    channels_last: bool

    @property
    def module(self) -> nn.Module:
        """The module itself."""
        return self.root.get_submodule(self.part)

    def order(self, leaves: list[Any], form: pytree.TreeSpec) -> CodeOrder | None:
        """What to ask for where it is called so; None where that cannot be asked for.

        Args:
            leaves: The arguments, tensors and others.
            form: How they make up arguments.
        """
        known = [
            TensorForm.of(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves
        ]
        if not all(isinstance(leaf, Leaf) for leaf in known):
            return None
        weight = next(self.root.parameters())
        root: Any = self.root
        # What diffusers notes beside is in another order in each process.
        config = {key: value for key, value in root.config.items() if key[:1] != "_"}
        return CodeOrder(
            network=type(root).__name__,
            config=json.dumps(config, sort_keys=True, default=str),
            part=self.part,
            data_type=str(weight.dtype).removeprefix("torch."),
            channels_last=self.channels_last,
            device=str(weight.device),
            form=pytree.treespec_dumps(form),
            leaves=tuple(known),
            steady=_steady(leaves, form),
            machine=_machine(str(weight.device)),
        )


def _steady(leaves: list[Any], form: pytree.TreeSpec) -> tuple[bool, ...]:
    _, named = pytree.tree_unflatten(list(range(len(leaves))), form)
    same = {place for name in _STEADY for place in pytree.tree_leaves(named.get(name))}
    return tuple(
        place in same for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)
    )


@lru_cache
def _machine(device: str) -> str:
    """Versions and names that compiled code is made for."""
    backend = backend_of(torch.device(device))
    card = ""
    if backend is not None and hasattr(backend, "get_device_name"):
        card = backend.get_device_name(device)
    versions = (torch.__version__, torch.version.cuda, getattr(torch.version, "hip", None))
    return json.dumps([_FORMAT, *versions, card, torch.backends.cpu.get_cpu_capability()])
