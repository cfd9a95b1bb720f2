"""A group normalisation (arXiv:1803.08494) of pictures whose channels lie innermost, with what
stands around it: numbers for each channel that are added first, and SiLU behind it.

Compilers gather a group's numbers with gaps where channels lie innermost. Three kernels read
rows of channels instead: sums of each channel, a factor and a summand for each, and one pass.
"""

from __future__ import annotations

import torch


# The schema is spelled out: torch 2.4 cannot read it from annotations.
@torch.library.custom_op(
    "device_operations::group_norm",
    mutates_args=(),
    schema="(Tensor sample, Tensor? added, Tensor? weight, Tensor? bias, "
    "SymInt groups, float eps, bool activated) -> Tensor",
)
def group_norm(
    sample: torch.Tensor,
    added: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    groups: int,
    eps: float,
    activated: bool,
) -> torch.Tensor:
    """Normalise, on a device that Triton makes kernels for.

    Args:
        sample: `[batch, channels, height, width]`, channels last.
        added: `[batch or 1, channels]`, added to every pixel first; or nothing.
        weight: `[channels]`; or nothing.
        bias: Likewise.
        groups: How many there are.
        eps: Added to a group's variance.
        activated: Whether SiLU follows.

    Returns:
        Like `sample`; all between is float32.
    """
    from domains.inference.backends.compiled import group_norm_kernels

    return group_norm_kernels.run(sample, added, weight, bias, groups, eps, activated)


@group_norm.register_fake
def _like(sample: torch.Tensor, *_: object) -> torch.Tensor:
    return torch.empty_like(sample, memory_format=torch.channels_last)


OPERATOR = torch.ops.device_operations.group_norm.default
"""As it stands in graphs."""
