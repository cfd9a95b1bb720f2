"""Layers as compilers make fast code of them: the same results but for rounding."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.nn import functional


class _Folded(Upsample2D):
    """A picture doubled to its nearest pixels and convolved, as one transposed convolution: of
    nine products for each pixel made, pixels that are the same leave four."""

    def forward(
        self, hidden_states: torch.Tensor, output_size: Any = None, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """See `Upsample2D`."""
        doubled = [2 * edge for edge in hidden_states.shape[-2:]]
        if output_size is not None and list(output_size) != doubled:
            return super().forward(hidden_states, output_size, *args, **kwargs)
        convolution: Any = self.conv if self.name == "conv" else self.Conv2d_0
        kernel = folded(convolution.weight)
        return functional.conv_transpose2d(
            hidden_states, kernel, convolution.bias, stride=2, padding=1
        )


def folded(weight: torch.Tensor) -> torch.Tensor:
    """Of a 3x3 convolution behind a doubling, the transposed one of stride 2 and padding 1.

    Args:
        weight: `[out, in, 3, 3]`.

    Returns:
        `[in, out, 4, 4]`, channels last, in the same type, summed in float32.
    """
    kernel = weight.float()
    for axis in (2, 3):
        first, middle, last = torch.split(kernel, 1, axis)
        kernel = torch.cat([last, middle + last, first + middle, first], axis)
    made = kernel.to(weight.dtype).transpose(0, 1)
    return made.contiguous(memory_format=torch.channels_last)


def rewrite(network: nn.Module) -> None:
    """Have a network's layers work as compiled code is to, with the same weights.

    Args:
        network: One of diffusers, channels last, which is for nothing else then.
    """
    for module in network.modules():
        if type(module) is Upsample2D and _foldable(module):
            module.__class__ = _Folded


def _foldable(module: Upsample2D) -> bool:
    layer = module.conv if module.name == "conv" else getattr(module, "Conv2d_0", None)
    return (
        module.use_conv
        and module.interpolate
        and not module.use_conv_transpose
        and module.norm is None
        and isinstance(layer, nn.Conv2d)
        and (layer.kernel_size, layer.stride) == ((3, 3), (1, 1))
        and (layer.padding, layer.dilation, layer.groups) == ((1, 1), (1, 1), 1)
        and layer.padding_mode == "zeros"
    )
