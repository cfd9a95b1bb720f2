"""GFPGAN in its clean form, that of the versions 1.2 to 1.4 (Wang et al., 2021).

A U-net looks at the face at every size from 512 to 4 pixels. A StyleGAN 2 draws one anew from
what it saw, and half of its channels are scaled and shifted by what the U-net kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from domains.model.backends.recognition.tensors import Shape
from domains.model.backends.stored_weights import incomplete, misshapen

RESTORER = "face restorer"
"""What the network is called in messages."""
SIZES = (4, 8, 16, 32, 64, 128, 256, 512)
"""Edges of what it computes with, in pixels; faces have the last one."""
_MOST_LAYERS = 64


@dataclass(frozen=True)
class GfpganDesign:
    """One network, whole: every tensor of it is stored in its shape.

    Attributes:
        widths: Channels of the part that draws, for each of `SIZES`; the U-net has half.
        style: Numbers of a style.
        mapping: Layers that make a style of noise. They are in the file and not used.
        names: What the file calls each of its tensors.
    """

    widths: tuple[int, ...]
    style: int
    mapping: int
    names: Mapping[str, str]

    def behind(self, prefix: str) -> GfpganDesign:
        """The same in a file that has a prefix before each name."""
        return replace(self, names={name: prefix + old for name, old in self.names.items()})


def read(stored: Mapping[str, Shape]) -> GfpganDesign:
    """The network of a file whose tensors have these shapes; see `design_of`."""
    drawing = "stylegan_decoder."
    steps = ("style_conv1", *(f"style_convs.{2 * at}" for at in range(len(SIZES) - 1)))
    widths = tuple(
        _edge(stored, f"{drawing}{step}.modulated_conv.weight", 5, 1) for step in steps
    )
    style = _edge(stored, f"{drawing}style_conv1.modulated_conv.modulation.weight", 2, 1)
    layers = range(1, 2 * _MOST_LAYERS, 2)
    mapping = sum(f"{drawing}style_mlp.{layer}.weight" in stored for layer in layers)
    wanted = shapes(widths, style, mapping)
    missing = sorted(wanted.keys() - stored.keys())
    unexpected = sorted(stored.keys() - wanted.keys())
    if missing or unexpected:
        raise incomplete(RESTORER, missing, unexpected)
    for name, shape in wanted.items():
        if stored[name] != shape:
            raise misshapen(RESTORER, name)
    return GfpganDesign(widths, style, mapping, {name: name for name in wanted})


def _edge(stored: Mapping[str, Shape], name: str, dimensions: int, axis: int) -> int:
    shape = stored.get(name, ())
    if len(shape) != dimensions or not shape[axis]:
        raise incomplete(RESTORER, [name], [])
    return shape[axis]


def shapes(widths: Sequence[int], style: int, mapping: int) -> dict[str, Shape]:
    """Every tensor of such a network."""
    seen = [width // 2 for width in widths]
    found: dict[str, Shape] = {}

    def conv(name: str, taken: int, given: int, edge: int = 3, *, bias: bool = True) -> None:
        found[f"{name}.weight"] = (given, taken, edge, edge)
        if bias:
            found[f"{name}.bias"] = (given,)

    def linear(name: str, taken: int, given: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (given, taken), (given,)

    def block(name: str, taken: int, given: int) -> None:
        conv(f"{name}.conv1", taken, taken)
        conv(f"{name}.conv2", taken, given)
        conv(f"{name}.skip", taken, given, 1, bias=False)

    def modulated(name: str, taken: int, given: int, edge: int) -> None:
        found[f"{name}.modulated_conv.weight"] = (1, given, taken, edge, edge)
        linear(f"{name}.modulated_conv.modulation", style, taken)
        found[f"{name}.bias"] = (1, given, 1, 1)
        if edge > 1:  # what draws has noise, what makes colours has none
            found[f"{name}.weight"] = (1,)

    last = len(SIZES) - 1
    conv("conv_body_first", 3, seen[last], 1)
    for at in range(last):
        block(f"conv_body_down.{at}", seen[last - at], seen[last - at - 1])
        block(f"conv_body_up.{at}", seen[at], seen[at + 1])
        conv(f"toRGB.{at}", seen[at + 1], 3, 1)
        for kind in ("condition_scale", "condition_shift"):
            conv(f"{kind}.{at}.0", seen[at + 1], seen[at + 1])
            conv(f"{kind}.{at}.2", seen[at + 1], seen[at + 1])
    conv("final_conv", seen[0], seen[0])
    linear("final_linear", seen[0] * SIZES[0] ** 2, 2 * len(SIZES) * style)
    drawing = "stylegan_decoder."
    for layer in range(mapping):
        linear(f"{drawing}style_mlp.{2 * layer + 1}", style, style)
    found[f"{drawing}constant_input.weight"] = (1, widths[0], SIZES[0], SIZES[0])
    modulated(f"{drawing}style_conv1", widths[0], widths[0], 3)
    modulated(f"{drawing}to_rgb1", widths[0], 3, 1)
    found[f"{drawing}noises.noise0"] = (1, 1, SIZES[0], SIZES[0])
    for at in range(last):
        modulated(f"{drawing}style_convs.{2 * at}", widths[at], widths[at + 1], 3)
        modulated(f"{drawing}style_convs.{2 * at + 1}", widths[at + 1], widths[at + 1], 3)
        modulated(f"{drawing}to_rgbs.{at}", widths[at + 1], 3, 1)
        for each in (2 * at + 1, 2 * at + 2):
            found[f"{drawing}noises.noise{each}"] = (1, 1, SIZES[at + 1], SIZES[at + 1])
    return found
