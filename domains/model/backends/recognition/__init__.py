"""What a single safetensors file is, from the names and shapes of its tensors.

File names are what people make of them; tensor names are what programs read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from domains.model.backends.recognised import Recognised
from domains.model.backends.recognition.adapters import adapter
from domains.model.backends.recognition.checkpoints import checkpoint
from domains.model.backends.recognition.controls import control
from domains.model.backends.recognition.encoders import encoder
from domains.model.backends.recognition.enlargers import enlarger
from domains.model.backends.recognition.modules import module
from domains.model.backends.recognition.quantisation import quantisation
from domains.model.backends.recognition.tensors import Tensors

__all__ = ["Recognised", "Tensors", "recognise"]

# The order matters: a ControlNet has the layers of the UNet that it was made of, some of them
# bring LoRAs of their own, and a LoRA names the layers of the UNet that it changes.
_TESTS: tuple[Callable[[Tensors], Recognised | None], ...] = (
    control,
    adapter,
    module,
    checkpoint,
    encoder,
    enlarger,
)


def recognise(tensors: Tensors) -> Recognised:
    """Tell what a file is; of an unknown one, nothing."""
    answers = (answer for test in _TESTS if (answer := test(tensors)) is not None)
    found = next(answers, Recognised(None))
    how = quantisation(tensors)
    return replace(found, quantisation=how) if how else found
