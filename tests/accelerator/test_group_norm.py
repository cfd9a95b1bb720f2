"""Our kernels of a group normalisation on a card, beside the exact result."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from domains.inference.backends.compiled.group_norm import group_norm

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card")


@pytest.mark.parametrize("data_type", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "groups", "mean"),
    [
        ((2, 320, 128, 128), 32, 0.0),
        ((2, 1920, 64, 64), 32, 1.0),
        ((2, 2560, 32, 32), 32, 0.0),
        ((1, 128, 1024, 1024), 32, 5.0),
        ((3, 60, 9, 7), 6, 0.0),
        ((1, 64, 1, 1), 8, 0.0),
    ],
)
@pytest.mark.parametrize("activated", [True, False])
def test_it_is_the_exact_result_but_for_rounding(
    shape: tuple[int, ...],
    groups: int,
    mean: float,
    data_type: torch.dtype,
    activated: bool,
) -> None:
    torch.manual_seed(0)

    def made(*size: int) -> torch.Tensor:
        return torch.randn(size, device="cuda").to(data_type)

    sample = (made(*shape) + mean).contiguous(memory_format=torch.channels_last)
    added, weight, bias = made(shape[0], shape[1]), made(shape[1]), made(shape[1])
    given = group_norm(sample, added, weight, bias, groups, 1e-5, activated)
    exact = sample.double() + added.double()[:, :, None, None]
    wanted = functional.group_norm(exact, groups, weight.double(), bias.double(), 1e-5)
    if activated:
        wanted = functional.silu(wanted)
    assert given.is_contiguous(memory_format=torch.channels_last)
    error = float((given.double() - wanted).norm() / wanted.norm())
    assert error < 2 * torch.finfo(data_type).eps


def test_what_lies_otherwise_and_lacks_everything() -> None:
    sample = torch.randn(2, 32, 16, 16, device="cuda")
    wanted = functional.group_norm(sample, 4)
    given = group_norm(sample, None, None, None, 4, 1e-5, activated=False)
    assert torch.allclose(given, wanted, atol=1e-5)
