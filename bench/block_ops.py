"""A transformer's block by products that add what was there and attention for few keys."""

from __future__ import annotations

from typing import Any

import torch
import triton
from diffusers.models.attention import BasicTransformerBlock
from torch import nn
from torch.library import custom_op, triton_op, wrap_triton
from torch.nn import functional

from bench.cublaslt import product_of
from bench.short_attention import _attend


@custom_op("bench::product", mutates_args=())
def product(
    rows: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    added: torch.Tensor | None,
) -> torch.Tensor:
    return product_of(rows, weight, bias, added)


@product.register_fake
def _(rows: Any, weight: Any, bias: Any, added: Any) -> Any:
    return rows.new_empty(*rows.shape[:-1], weight.shape[0])


@triton_op("bench::attend", mutates_args={})
def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, heads: int
) -> torch.Tensor:
    batch, count, width = keys.shape
    out = torch.empty_like(queries)
    each = width // heads
    wrap_triton(_attend)[triton.cdiv(queries.shape[1], 64), batch * heads](
        queries,
        keys,
        values,
        out,
        queries.shape[1],
        count,
        heads,
        width,
        each**-0.5 * 1.4426950408889634,
        ROWS=64,
        KEYS=128,
        EACH=each,
        num_warps=4,
    )
    return out


def plain(rows: Any, weight: Any, bias: Any, added: Any) -> Any:
    made = functional.linear(rows, weight, bias)
    return made if added is None else made + added


class Block(BasicTransformerBlock):
    """With `multiply` and whether attention to texts is the kernel for few keys."""

    multiply: Any = staticmethod(plain)
    short = False

    def forward(
        self, hidden_states: Any, *_: Any, encoder_hidden_states: Any = None, **__: Any
    ) -> Any:
        multiply, h = type(self).multiply, hidden_states
        own, text = self.attn1, self.attn2

        def heads(each: Any) -> Any:
            return each.view(*each.shape[:2], own.heads, -1).transpose(1, 2)

        weight = torch.cat([own.to_q.weight, own.to_k.weight, own.to_v.weight])
        q, k, v = map(heads, multiply(self.norm1(h), weight, None, None).chunk(3, -1))
        made = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = multiply(made, own.to_out[0].weight, own.to_out[0].bias, h)
        q = multiply(self.norm2(h), text.to_q.weight, None, None)
        k = functional.linear(encoder_hidden_states, text.to_k.weight)
        v = functional.linear(encoder_hidden_states, text.to_v.weight)
        if self.short:
            made = attend(q, k, v, text.heads)
        else:
            made = functional.scaled_dot_product_attention(heads(q), heads(k), heads(v))
            made = made.transpose(1, 2).flatten(2)
        h = multiply(made, text.to_out[0].weight, text.to_out[0].bias, h)
        proj, last = self.ff.net[0].proj, self.ff.net[2]
        values, gates = multiply(self.norm3(h), proj.weight, proj.bias, None).chunk(2, -1)
        return multiply(values * functional.gelu(gates), last.weight, last.bias, h)


class ByProducts(Block):
    multiply = staticmethod(product)


class Short(Block):
    short = True


class Both(ByProducts):
    short = True


def use(network: nn.Module, kind: type[Block]) -> None:
    for module in network.modules():
        if type(module) is BasicTransformerBlock:
            module.__class__ = kind
