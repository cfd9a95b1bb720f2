"""LoRAs at work: put on a model's layers while a picture is drawn, and taken off again.

The weights of the model are never written to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from domains.inference.backends.compilation import without_compiled_code
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.lora_hooks import LayerChange, change_of, in_places
from domains.inference.backends.lora_places import LoraPlaces
from domains.inference.backends.lora_shelf import KeptLora, refused
from domains.inference.backends.second_try import with_room
from domains.model.backends.lora.file import LoraFile, check_fit
from domains.model.backends.lora.layers import UNET, Layer


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
    places = model.lora_places if model.graphs.records_hooks else None
    with without_compiled_code(model.networks[UNET]), _working(model, loras, [UNET], places):
        yield


@contextmanager
def _working(
    model: LoadedModel,
    loras: Sequence[ActiveLora],
    names: Sequence[str],
    places: LoraPlaces | None = None,
) -> Iterator[None]:
    layers = _layers({name: model.networks[name] for name in names})

    def made() -> list[LayerChange]:
        return [
            change_of(target, parts, layers[target.layer], strength)
            for active in loras
            for target, parts in active.lora.changes
            if target.layer.network in names
            and (strength := active.strength(target.layer.network))
        ]

    hooks = with_room(made, model.make_room)
    with ExitStack() as undone:
        for name in {each.layer.network for each in hooks}:
            undone.callback(_thaw, model.networks[name].requires_grad_(False))
        if places is not None:
            hooks = undone.enter_context(in_places(hooks, places))
        for each in hooks:
            undone.callback(each.module.register_forward_hook(each).remove)
        yield


def _thaw(network: nn.Module) -> None:
    """Have weights require gradients again, as `fill` leaves them: peft takes that from a
    network's own weights and gives it to those that are added, and last bits depend on it."""
    for weight in network.parameters():
        weight.requires_grad_(weight.is_floating_point())


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
