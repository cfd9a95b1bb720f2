"""LoRAs at work: what they add to the outputs of a model's layers while a picture is drawn.

The weights of the model are never written to. For plain LoRAs the order of operations is that
of peft's layers that are not merged (`tuners/lora/layer.py`), so that pictures come out as from
diffusers' `load_lora_weights` and `set_adapters`, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn import functional

from domains.inference.backends.compilation import without_compiled_code
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.lora_changes import Parts, scaling_of, whole_change
from domains.inference.backends.lora_shelf import KeptLora, refused
from domains.model.backends.lora.endings import Algorithm
from domains.model.backends.lora.file import LoraFile, check_fit
from domains.model.backends.lora.layers import UNET, Layer
from domains.model.backends.lora.targets import Target

_Add = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From a layer's input and output to its output with the change."""


@dataclass(frozen=True)
class ActiveLora:
    """A LoRA and how strongly it works on the denoiser and on text encoders."""

    lora: KeptLora
    weight: float
    text_encoder_weight: float

    def strength(self, network: str) -> float:
        """How strongly it works on a network."""
        return self.weight if network == UNET else self.text_encoder_weight


def check_loras(model: LoadedModel, loras: Sequence[ActiveLora]) -> None:
    """Refuse LoRAs that do not fit the layers of a model.

    Raises:
        FailedPrecondition: MODEL_INCOMPATIBLE, with the first layer that does not fit.
    """
    sizes = {
        layer: tuple(module.weight.shape) for layer, module in _layers(model.networks).items()
    }
    for active in loras:
        targets = tuple(target for target, _ in active.lora.changes)
        findings = check_fit(LoraFile(targets, ()), sizes)
        if findings:
            raise refused(active.lora.model_id, findings[0])


@contextmanager
def on_text_encoders(model: LoadedModel, loras: Sequence[ActiveLora]) -> Iterator[None]:
    """Have LoRAs work on the text encoders inside; embeddings are kept under their names."""
    names = [name for name in model.networks if name.startswith("text_encoder")]
    key = tuple(
        (active.lora.place, active.lora.fingerprint, active.text_encoder_weight)
        for active in loras
        if active.text_encoder_weight
        and any(target.layer.network in names for target, _ in active.lora.changes)
    )
    with model.embeddings.under(key), _working(model, loras, names):
        yield


@contextmanager
def on_denoiser(model: LoadedModel, loras: Sequence[ActiveLora]) -> Iterator[None]:
    """Have LoRAs work on the UNet inside, which runs without compiled code as long."""
    if not any(active.weight for active in loras):
        yield
        return
    with without_compiled_code(model.networks[UNET]), _working(model, loras, [UNET]):
        yield


@contextmanager
def _working(
    model: LoadedModel, loras: Sequence[ActiveLora], names: Sequence[str]
) -> Iterator[None]:
    layers = _layers({name: model.networks[name] for name in names})
    changes = [
        (target, parts, strength)
        for active in loras
        for target, parts in active.lora.changes
        if target.layer.network in names and (strength := active.strength(target.layer.network))
    ]
    with ExitStack() as undone:
        for name in {target.layer.network for target, _, _ in changes}:
            undone.callback(_thaw, model.networks[name].requires_grad_(False))
        for target, parts, strength in changes:
            layer = layers[target.layer]
            add = _adding(target, parts, layer, strength)
            undone.callback(layer.register_forward_hook(_hook(add)).remove)
        yield


def _thaw(network: nn.Module) -> None:
    """Have weights require gradients again, as `fill` leaves them: peft takes that from a
    network's own weights and gives it to those that are added, and last bits depend on it."""
    for weight in network.parameters():
        weight.requires_grad_(weight.is_floating_point())


def _hook(add: _Add) -> Any:
    def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
        return add(inputs[0], output)

    return hook


def _layers(networks: Mapping[str, nn.Module]) -> dict[Layer, Any]:
    """The layers that can be changed, by the names of files. Versions of transformers differ in
    whether an encoder's begin with `text_model`."""
    found: dict[Layer, Any] = {}
    for network, whole in networks.items():
        if whole not in _KNOWN:
            _KNOWN[whole] = _layers_of(network, whole)
        found |= _KNOWN[whole]
    return found


# What a network is made of stays as it is, and walking through it takes milliseconds.
_KNOWN: WeakKeyDictionary[nn.Module, dict[Layer, Any]] = WeakKeyDictionary()


def _layers_of(network: str, whole: nn.Module) -> dict[Layer, Any]:
    found: dict[Layer, Any] = {}
    for name, module in whole.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            found[Layer(network, name)] = module
            if network != UNET:
                found.setdefault(Layer(network, f"text_model.{name}"), module)
    return found


def _adding(target: Target, parts: Parts, module: Any, strength: float) -> _Add:
    weight: torch.Tensor = module.weight
    own = {name: part.to(weight.device) for name, part in parts.items()}
    if target.algorithm is Algorithm.LORA and "magnitude" not in own:
        return _plain(own, module, strength)
    change = whole_change(target.algorithm, own, weight)
    bias = own.get("diff_b")
    change = None if change is None else change.to(weight.dtype)
    bias = None if bias is None else bias.to(weight.dtype)
    if isinstance(module, nn.Conv2d) and bias is not None:
        bias = bias.reshape(-1, 1, 1)

    def add(given: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        if change is not None:
            result = result + _through(module, given, change) * strength
        return result if bias is None else result + bias * strength

    return add


def _plain(parts: Parts, module: Any, strength: float) -> _Add:
    """A LoRA by its two matrices, or convolutions."""
    scaling = strength * scaling_of(Algorithm.LORA, parts)
    kind = module.weight.dtype
    down, up = parts["down"].to(kind), parts["up"].to(kind)
    bias = parts["up_bias"].to(kind) if "up_bias" in parts else None
    added = parts["diff_b"].to(kind) if "diff_b" in parts else None
    if isinstance(module, nn.Linear):
        # Apart from those on the shelf: it is only here that they require gradients.
        down, up = (each.detach().flatten(1).requires_grad_() for each in (down, up))

        def linear(given: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
            lower = functional.linear(given, down)
            result = result + functional.linear(lower, up, bias) * scaling
            return result if added is None else result + added * strength

        return linear
    mid = parts["mid"].to(kind) if "mid" in parts else None
    down, up = _as_kernel(down), _as_kernel(up)

    def convolution(given: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        if mid is None:
            lower = _through(module, given, down)
        else:
            lower = _through(module, functional.conv2d(given, down), mid)
        result = result + functional.conv2d(lower, up, bias) * scaling
        return result if added is None else result + added.reshape(-1, 1, 1) * strength

    return convolution


def _as_kernel(matrix: torch.Tensor) -> torch.Tensor:
    return matrix if matrix.dim() == 4 else matrix.reshape(*matrix.shape, 1, 1)


def _through(module: Any, given: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What the layer would give with other weights and no bias."""
    if isinstance(module, nn.Linear):
        return functional.linear(given, weight)
    return functional.conv2d(
        given, weight, None, module.stride, module.padding, module.dilation, module.groups
    )
