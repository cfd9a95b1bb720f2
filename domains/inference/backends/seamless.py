"""Pictures whose edges continue at the opposite ones, to be laid as tiles.

Convolutions see beyond an edge what stands at the opposite one, instead of zeros; everything
else in a UNet and a VAE is the same wherever in the picture it works. So a picture that is
rolled around an edge is drawn as the same picture, rolled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from torch import nn
from torch.nn import functional

from domains.inference.backends.compilation import without_compiled_code
from domains.inference.types import GenerationSettings


@dataclass(frozen=True)
class Edges:
    """Which edges continue: the left one at the right one, the upper one at the lower one."""

    horizontally: bool = False
    vertically: bool = False

    def __bool__(self) -> bool:
        return self.horizontally or self.vertically

    def around(
        self, tensor: torch.Tensor, left_and_right: int, above_and_below: int
    ) -> torch.Tensor:
        """The tensor and, where its edges continue, so much around it of what is there.

        Args:
            tensor: `[batch, channels, height, width]`.
            left_and_right: Columns, at most as many as it has.
            above_and_below: Rows, at most as many as it has.
        """
        columns = left_and_right if self.horizontally else 0
        rows = above_and_below if self.vertically else 0
        if not columns and not rows:
            return tensor
        return functional.pad(tensor, (columns, columns, rows, rows), mode="circular")


NO_EDGES = Edges()


def edges_of(settings: GenerationSettings) -> Edges:
    """Those that a request wants to continue."""
    return Edges(settings.seamless_horizontally, settings.seamless_vertically)


@contextmanager
def seamless_convolutions(networks: Iterable[nn.Module], edges: Edges) -> Iterator[None]:
    """Have the convolutions of networks see around edges inside, without compiled code as long.

    Args:
        networks: UNets, ControlNets or autoencoders of diffusers.
        edges: Without any, everything stays as it is.
    """
    with ExitStack() as undo:
        for network in networks if edges else ():
            undo.enter_context(without_compiled_code(network))
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    _continue_edges(module, edges, undo)
                elif isinstance(module, Downsample2D) and not module.padding:
                    _continue_after(module.conv, edges, undo)
        yield


def _continue_edges(convolution: Any, edges: Edges, undo: ExitStack) -> None:
    padding = rows, columns = convolution.padding
    if not any(padding):
        return
    left_to_zeros = (0 if edges.vertically else rows, 0 if edges.horizontally else columns)

    def around(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        return (edges.around(inputs[0], columns, rows), *inputs[1:])

    undo.callback(setattr, convolution, "padding", padding)
    convolution.padding = left_to_zeros
    undo.callback(convolution.register_forward_pre_hook(around).remove)


def _continue_after(convolution: Any, edges: Edges, undo: ExitStack) -> None:
    """For an encoder's halving, which puts one row and one column of zeros after the last."""

    def after(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        image = inputs[0].clone()
        if edges.horizontally:
            image[..., -1] = image[..., 0]
        if edges.vertically:
            image[..., -1, :] = image[..., 0, :]
        return (image, *inputs[1:])

    undo.callback(convolution.register_forward_pre_hook(after).remove)
