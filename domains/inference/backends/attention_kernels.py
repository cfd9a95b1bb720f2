"""Which kernels compute a network's attention: torch chooses one for each call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from domains.inference.types import AttentionKernel

# torch.nn.attention.SDPBackend.
_NUMBERS = {
    0: AttentionKernel.MATH,
    1: AttentionKernel.FLASH,
    2: AttentionKernel.MEMORY_EFFICIENT,
    3: AttentionKernel.CUDNN,
}
# Elsewhere torch is not asked which: the device has a way of its own.
_WITH_A_CHOICE = frozenset({"cpu", "cuda"})


class Watched:
    """A network whose first call is looked at for what computes its attention.

    Args:
        network: Called as it is; not one that runs as compiled code.
        tell: Called once, with each kernel once.
    """

    def __init__(
        self, network: Callable[..., Any], tell: Callable[[Iterable[AttentionKernel]], None]
    ) -> None:
        self._network = network
        self._tell = tell
        self._told = False

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """What the network gives."""
        if self._told:
            return self._network(*inputs, **named)
        with _Watch() as watch:
            result = self._network(*inputs, **named)
        self._told = True
        self._tell(watch.seen)
        return result


class _Watch(TorchFunctionMode):
    """Notes what computes each attention inside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[AttentionKernel, None] = {}

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function is functional.scaled_dot_product_attention:
            self.seen.setdefault(_kernel(*args, **kwargs))
        return function(*args, **kwargs)


def _kernel(query: torch.Tensor, *inputs: Any, **named: Any) -> AttentionKernel:
    """What torch chooses for these inputs; it asks the same function itself."""
    choice = getattr(torch, "_fused_sdp_choice", None)
    if choice is None or query.device.type not in _WITH_A_CHOICE:
        return AttentionKernel.OTHER
    return _NUMBERS.get(int(choice(query, *inputs, **named)), AttentionKernel.OTHER)
