"""Attention of one wide head by products on a card, as compiled code has it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from domains.inference.backends.compiled.attention import has_wide_products, use_products
from domains.inference.backends.compiled.making import compiled

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, while it loads
]


class _Attending(nn.Module):
    def forward(self, query: Any, key: Any, value: Any) -> tuple[torch.Tensor]:
        return (functional.scaled_dot_product_attention(query, key, value),)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [64, 1000, 12000])
def test_it_is_as_near_as_the_kernel(kind: torch.dtype, rows: int) -> None:
    if not has_wide_products(torch.device("cuda")):
        pytest.skip("this torch multiplies no halves into float32 there")
    torch.manual_seed(rows)
    given = tuple(torch.randn(1, 1, rows, 512, device="cuda").to(kind) for _ in range(3))
    with torch.no_grad():
        graph = torch.export.export(_Attending(), given, strict=False).graph_module
        use_products(graph)
        made = compiled(graph, list(given))(*given)[0]
        plain = _Attending()(*given)[0]
        exact = _Attending()(*(each.double() for each in given))[0]

    def differs(one: torch.Tensor) -> float:
        return float((one.double() - exact).norm() / exact.norm())

    assert differs(made) <= 1.2 * differs(plain)
