"""MobileNetV2 with the head of nsfwjs: from a picture to five classes, in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional

_BLOCKS = 16
"""Beside the first, which widens nothing."""
_HALVING = (1, 3, 6, 13)
"""Blocks whose result has half the edges."""
_EPSILON = 1e-3


class _Convolution(NamedTuple):
    """With its normalisation in it."""

    kernel: torch.Tensor
    bias: torch.Tensor
    stride: int = 1
    groups: int = 1

    def __call__(self, values: torch.Tensor, *, bounded: bool = True) -> torch.Tensor:
        """`bounded` by 0 and 6."""
        if self.stride == 2:  # right and below alone, as TensorFlow's models are trained
            values, padding = functional.pad(values, (0, 1, 0, 1)), 0
        else:
            padding = self.kernel.shape[-1] // 2
        values = functional.conv2d(
            values, self.kernel, self.bias, self.stride, padding, groups=self.groups
        )
        return values.clamp(0.0, 6.0) if bounded else values


class MobileNet:
    """The network.

    Args:
        weights: float64, by their names and in their layouts in TensorFlow.

    Raises:
        KeyError: One is missing.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        self._weights = weights
        self._first = self._convolution("Conv1", "bn_Conv1", stride=2)
        names = ("expanded_conv", *(f"block_{number}" for number in range(1, _BLOCKS + 1)))
        self._blocks = [
            (
                self._convolution(f"{name}_expand") if number else None,
                self._convolution(f"{name}_depthwise", stride=2 if number in _HALVING else 1),
                self._convolution(f"{name}_project"),
            )
            for number, name in enumerate(names)
        ]
        self._last = self._convolution("Conv_1", "Conv_1_bn")
        self._dense = [
            (weights[f"dense_{n}/kernel"].float().T, weights[f"dense_{n}/bias"].float())
            for n in (1, 2, 3)
        ]
        del self._weights

    def _convolution(self, name: str, norm: str = "", stride: int = 1) -> _Convolution:
        """One with its normalisation, which at inference is a factor and an offset."""
        weights, norm = self._weights, norm or f"{name}_BN"
        deep = f"{name}/depthwise_kernel" in weights
        # [height, width, channels, 1] where each channel has its own, otherwise [.., in, out]
        kernel = (
            weights[f"{name}/depthwise_kernel"].permute(2, 3, 0, 1)
            if deep
            else weights[f"{name}/kernel"].permute(3, 2, 0, 1)
        )
        deviation = (weights[f"{norm}/moving_variance"] + _EPSILON).sqrt()
        factor = weights[f"{norm}/gamma"] / deviation
        bias = weights[f"{norm}/beta"] - weights[f"{norm}/moving_mean"] * factor
        return _Convolution(
            (kernel * factor[:, None, None, None]).float().contiguous(),
            bias.float(),
            stride,
            kernel.shape[0] if deep else 1,
        )

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        """The classes' probabilities, float32 `[batch, 5]`.

        Args:
            picture: float32 `[batch, 3, 224, 224]`, from 0 to 1.
        """
        values = self._first(picture)
        for expand, deep, project in self._blocks:
            before = values
            if expand is not None:
                values = expand(values)
            values = project(deep(values), bounded=False)
            if deep.stride == 1 and before.shape == values.shape:
                values = before + values
        values = self._last(values).mean((2, 3))
        for kernel, bias in self._dense[:-1]:
            values = functional.linear(values, kernel, bias).relu()
        kernel, bias = self._dense[-1]
        return functional.linear(values, kernel, bias).softmax(1)
