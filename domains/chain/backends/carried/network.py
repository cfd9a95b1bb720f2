"""A carried network, run step by step as its file tells."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch.nn import functional

Numbers = NDArray[np.float32]


class CarriedNetwork:
    """One of the networks beside this module.

    Its file holds weights, and a list of steps in its metadata: what each does (`do`), of
    which earlier ones (`of`), and as which its result is known (`is`).

    Args:
        name: Of its file, without the ending.

    Attributes:
        edge: Of the square pictures it takes, in pixels.
    """

    def __init__(self, name: str) -> None:
        stored = (resources.files(__package__) / f"{name}.safetensors").read_bytes()
        length = int.from_bytes(stored[:8], "little")
        told = json.loads(json.loads(stored[8 : 8 + length])["__metadata__"]["network"])
        self.edge: int = told["edge"]
        self._taken: int = told["taken"]
        self._given: Sequence[int] = told["given"]
        self._steps: Sequence[Mapping[str, Any]] = told["steps"]
        self._weights = {name: one.float() for name, one in load(stored).items()}

    def run(self, picture: Numbers) -> tuple[Numbers, ...]:
        """What it gives for a picture.

        Args:
            picture: float32 `[edge, edge, 3]`, in the range its maker trained it on.

        Returns:
            float32 `[rows, columns]` for each list it gives, `[height, width, channels]` for
            each picture.
        """
        held = {self._taken: torch.from_numpy(picture).permute(2, 0, 1)[None]}
        with torch.inference_mode():
            for step in self._steps:
                taken = [held[at] for at in step["of"]]
                held[step["is"]] = self._done(step, taken)
            return tuple(_as_numbers(held[at]) for at in self._given)

    def _done(self, step: Mapping[str, Any], taken: Sequence[torch.Tensor]) -> torch.Tensor:
        weight = self._weights.get(f"{step['is']}.weight")
        if weight is None:
            made = _PLAIN[step["do"]](step, *taken)
        else:
            bias = self._weights[f"{step['is']}.bias"]
            made = _WEIGHED[step["do"]](step, taken[0], weight, bias)
        return made.relu() if "bent" in step else made


@cache
def carried(name: str) -> CarriedNetwork:
    """The network of that name, read once in this process."""
    return CarriedNetwork(name)


def _conv(
    step: Mapping[str, Any], taken: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    padded = functional.pad(taken, step["padding"])
    return functional.conv2d(padded, weight, bias, step["stride"], groups=step["groups"])


def _upconv(
    step: Mapping[str, Any], taken: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    return functional.conv_transpose2d(taken, weight, bias, step["stride"])


def _resize(step: Mapping[str, Any], taken: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(taken, step["size"], mode="bilinear", align_corners=False)


def _rows(step: Mapping[str, Any], taken: torch.Tensor) -> torch.Tensor:
    # As lists they lie in the order of the file's maker: channels innermost.
    return taken.permute(0, 2, 3, 1).reshape(1, -1, step["width"])


_WEIGHED: Mapping[str, Callable[..., torch.Tensor]] = {"conv": _conv, "upconv": _upconv}
_PLAIN: Mapping[str, Callable[..., torch.Tensor]] = {
    "add": lambda _step, one, other: one + other,
    "multiply": lambda _step, one, other: one * other,
    "relu": lambda _step, taken: taken.relu(),
    "hard_swish": lambda _step, taken: functional.hardswish(taken),
    "sigmoid": lambda _step, taken: taken.sigmoid(),
    "more_channels": lambda step, taken: functional.pad(taken, (0, 0, 0, 0, 0, step["count"])),
    "max_pool": lambda _step, taken: functional.max_pool2d(taken, 2),
    "mean": lambda _step, taken: taken.mean((2, 3), keepdim=True),
    "resize": _resize,
    "rows": _rows,
    "join": lambda _step, *taken: torch.cat(taken, 1),
}


def _as_numbers(made: torch.Tensor) -> Numbers:
    ordered = made[0] if made.dim() == 3 else made[0].permute(1, 2, 0)
    numbers: Numbers = ordered.contiguous().numpy()
    return numbers
