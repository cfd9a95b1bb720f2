"""Whether LoRAs fit a checkpoint, by their files' headers: before anything is loaded."""

from __future__ import annotations

import hashlib

from domains.inference.errors import LoraRefused
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.lora.file import (
    Finding,
    Sizes,
    check_applied,
    check_fit,
    parse_lora,
)
from domains.model.backends.lora.layers import UNET, Layer
from domains.model.backends.plans import plan_model
from domains.model.backends.remembered import Remembered
from domains.model.backends.safetensors_header import read_header
from domains.model.types import Model

_ANSWERS = 1_024


def pair_key(one: Model, other: Model) -> bytes:
    """What is the same for as long as the files of two models are as they were."""
    asked = repr((one.place, one.weights, other.place, other.weights))
    return hashlib.blake2b(asked.encode("utf-8", "surrogateescape")).digest()


class LoraFits:
    """Reads headers, and remembers what it found while the files are as they were. Any thread
    may call it."""

    def __init__(self) -> None:
        self._found: Remembered[tuple[Finding, ...]] = Remembered(_ANSWERS)

    def check(self, lora: Model, model: Model) -> None:
        """Refuse a LoRA that cannot be applied to a checkpoint; blocks while headers are read.

        Raises:
            LoraRefused: As the worker would say it.
            DomainError: A file cannot be read.
        """
        key = pair_key(lora, model)
        findings = self._found.get(key)
        if findings is None:
            findings = _findings(lora, model)
            self._found.keep(key, findings)
        if findings:
            first = findings[0]
            raise LoraRefused(lora.model_id, first.reason, first.tensor, first.description)


def _findings(lora: Model, model: Model) -> tuple[Finding, ...]:
    file = parse_lora(read_header(ConfinedFiles(lora.place)))
    return file.findings or check_applied(file) or check_fit(file, _sizes(model))


def _sizes(model: Model) -> Sizes:
    """Shapes of the weights that a LoRA can change, by the names that LoRAs have for them."""
    found: dict[Layer, tuple[int, ...]] = {}
    for network in plan_model(ConfinedFiles(model.place)).networks:
        for name, origin in network.tensors.items():
            layer = name.removesuffix(".weight")
            if layer == name or len(origin.shape) not in (2, 4):
                continue
            found[Layer(network.name, layer)] = origin.shape
            if network.name != UNET:  # which versions of the library differ in
                found.setdefault(Layer(network.name, f"text_model.{layer}"), origin.shape)
    return found
