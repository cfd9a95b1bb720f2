"""A carried network, run step by step as its file tells, with numpy alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""`[height, width, 3]`, sRGB."""
Numbers = NDArray[np.float32]
_Step = Mapping[str, Any]
_TYPES = {"F16": np.float16, "F32": np.float32}


class CarriedNetwork:
    """One of the networks beside this module.

    Its file is a safetensors of weights, with a list of steps in its metadata: what each does
    (`do`), of which earlier ones (`of`), and as which its result is known (`is`).

    Args:
        name: Of its file, without the ending.

    Attributes:
        edge: Of the square pictures it takes, in pixels.
    """

    def __init__(self, name: str) -> None:
        stored = (resources.files(__package__) / f"{name}.safetensors").read_bytes()
        end = 8 + int.from_bytes(stored[:8], "little")
        entries = json.loads(stored[8:end])
        told = json.loads(entries.pop("__metadata__")["network"])
        self.edge: int = told["edge"]
        self._taken: int = told["taken"]
        self._given: Sequence[int] = told["given"]
        self._steps: Sequence[_Step] = told["steps"]
        self._weights = {name: _weights(stored[end:], one) for name, one in entries.items()}

    def run(self, picture: Numbers) -> tuple[Numbers, ...]:
        """What it gives for a picture.

        Args:
            picture: float32 `[edge, edge, 3]`, in the range its maker trained it on.

        Returns:
            float32 `[rows, columns]` for each list it gives, `[height, width, channels]` for
            each picture.
        """
        held = {self._taken: picture}
        for step in self._steps:
            held[step["is"]] = self._done(step, [held[at] for at in step["of"]])
        return tuple(held[at] for at in self._given)

    def _done(self, step: _Step, taken: Sequence[Numbers]) -> Numbers:
        weight = self._weights.get(f"{step['is']}.weight")
        if weight is None:
            made = _PLAIN[step["do"]](step, *taken)
        else:
            made = _WEIGHED[step["do"]](step, taken[0], weight)
            made += self._weights[f"{step['is']}.bias"]
        return np.maximum(made, 0) if "bent" in step else made


@cache
def carried(name: str) -> CarriedNetwork:
    """The network of that name, read once in this process."""
    return CarriedNetwork(name)


def _weights(data: bytes, entry: Mapping[str, Any]) -> Numbers:
    begin, end = entry["data_offsets"]
    numbers = np.frombuffer(data[begin:end], _TYPES[entry["dtype"]])
    return numbers.reshape(entry["shape"]).astype(np.float32)


def _conv(step: _Step, taken: Numbers, weight: Numbers) -> Numbers:
    """Weights are `[given, taken, height, width]`, or `[channels, 1, height, width]` where each
    channel is by itself."""
    left, right, top, bottom = step["padding"]
    stride, (high, wide) = step["stride"], weight.shape[2:]
    padded = taken
    if any(step["padding"]):
        padded = np.pad(taken, ((top, bottom), (left, right), (0, 0)))
    if step["groups"] == 1:
        seen = sliding_window_view(padded, (high, wide), (0, 1))[::stride, ::stride]
        made: Numbers = seen.reshape(-1, weight[0].size) @ weight.reshape(len(weight), -1).T
        return made.reshape(*seen.shape[:2], -1)
    height = (padded.shape[0] - high) // stride + 1
    width = (padded.shape[1] - wide) // stride + 1
    alone = np.zeros((height, width, len(weight)), np.float32)
    part = np.empty_like(alone)
    for y in range(high):
        for x in range(wide):
            rows = slice(y, y + (height - 1) * stride + 1, stride)
            columns = slice(x, x + (width - 1) * stride + 1, stride)
            alone += np.multiply(padded[rows, columns], weight[:, 0, y, x], out=part)
    return alone


def _upconv(step: _Step, taken: Numbers, weight: Numbers) -> Numbers:
    """Each pixel becomes a square of as many as the stride says; `[taken, given, height,
    width]`."""
    height, width, channels = taken.shape
    edge, given = step["stride"], weight.shape[1]
    made = taken.reshape(-1, channels) @ weight.transpose(0, 2, 3, 1).reshape(channels, -1)
    squares = made.reshape(height, width, edge, edge, given).transpose(0, 2, 1, 3, 4)
    return squares.reshape(height * edge, width * edge, given)


def _resized(step: _Step, taken: Numbers) -> Numbers:
    """Bilinear, between the middles of pixels."""
    down, across = (_between(*edges) for edges in zip(taken.shape, step["size"], strict=False))
    made: Numbers = np.einsum("yh,hwc,xw->yxc", down, taken, across, optimize=True)
    return made


@cache
def _between(taken: int, given: int) -> Numbers:
    """How much of each pixel of an axis is in each pixel that it becomes."""
    places = np.clip((np.arange(given) + 0.5) * taken / given - 0.5, 0, taken - 1)
    shares = 1 - np.abs(places[:, None] - np.arange(taken))
    weights: Numbers = np.maximum(shares, 0).astype(np.float32)
    return weights


def _halved(_step: _Step, taken: Numbers) -> Numbers:
    height, width, channels = taken.shape
    squares = taken.reshape(height // 2, 2, width // 2, 2, channels)
    most: Numbers = squares.max((1, 3))
    return most


_WEIGHED: Mapping[str, Callable[[_Step, Numbers, Numbers], Numbers]] = {
    "conv": _conv,
    "upconv": _upconv,
}
_PLAIN: Mapping[str, Callable[..., Numbers]] = {
    "add": lambda _step, one, other: one + other,
    "multiply": lambda _step, one, other: one * other,
    "relu": lambda _step, taken: np.maximum(taken, 0),
    "hard_swish": lambda _step, taken: taken * np.clip(taken + 3, 0, 6) / 6,
    "sigmoid": lambda _step, taken: 1 / (1 + np.exp(-np.clip(taken, -80, 80))),
    "more_channels": lambda step, taken: np.pad(taken, ((0, 0), (0, 0), (0, step["count"]))),
    "max_pool": _halved,
    "mean": lambda _step, taken: taken.mean((0, 1), keepdims=True),
    "resize": _resized,
    "rows": lambda step, taken: taken.reshape(-1, step["width"]),
    "join": lambda _step, *taken: np.concatenate(taken),
}
