"""Layers and graphs as compilers are given them: the same results."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.nn import functional

from domains.inference.backends.compiled import attention, making
from domains.inference.backends.compiled.attention import use_products
from domains.inference.backends.compiled.group_norm import OPERATOR
from domains.inference.backends.compiled.hoisting import halved
from domains.inference.backends.compiled.joining import join_products
from domains.inference.backends.compiled.layouts import lay_channels_last
from domains.inference.backends.compiled.norms import has_kernels, use_kernels
from domains.inference.backends.compiled.rewriting import rewrite
from domains.inference.backends.compiled.shelf import can_compile
from domains.inference.backends.device import Numerics
from tests.domains.inference.backends.compiled_unet import arguments, small_unet

LAST = Numerics(torch.float32, channels_last=True)


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def doubling(**options: Any) -> Any:
    torch.manual_seed(0)
    settings = {"use_conv": True} | options
    return Upsample2D(4, **settings).requires_grad_(False)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (8, 8)])
@pytest.mark.parametrize("name", ["conv", "Conv2d_0"])
@pytest.mark.parametrize("told", [None, (2, 2), (3, 1)])
def test_a_doubling_is_folded(
    size: tuple[int, int], name: str, told: tuple[int, int] | None
) -> None:
    layer, sample = doubling(name=name), picture(2, 4, *size)
    into = None if told is None else tuple(a * b for a, b in zip(size, told, strict=True))
    wanted = layer(sample, into)
    rewrite(layer)
    assert type(layer) is not Upsample2D
    assert torch.allclose(layer(sample, into), wanted, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"use_conv": False},
        {"use_conv": False, "use_conv_transpose": True},
        {"interpolate": False},
        {"kernel_size": 1, "padding": 0},
        {"norm_type": "ln_norm", "eps": 1e-5, "elementwise_affine": True},
    ],
)
def test_what_is_no_plain_doubling_stays(options: dict[str, Any]) -> None:
    layer = doubling(**options)
    rewrite(layer)
    assert type(layer) is Upsample2D


def test_circular_edges_stay() -> None:
    layer = doubling()
    layer.conv.padding_mode = "circular"
    rewrite(layer)
    assert type(layer) is Upsample2D


class _Whole(nn.Module):
    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Any, timestep: Any, text: Any, pooled: Any, ids: Any) -> Any:
        added = {"text_embeds": pooled, "time_ids": ids}
        return self.unet(sample, timestep, text, added_cond_kwargs=added, return_dict=False)


@pytest.fixture
def exported(whole: Any) -> Any:
    """A UNet's graph, what it takes and gives; the graph is a test's own."""
    graph, taken, wanted = whole
    return copy.deepcopy(graph), taken, wanted


@pytest.fixture(scope="module")
def whole() -> Any:
    """As `exported`, for all."""
    if not can_compile():
        pytest.skip("this torch exports no UNet, nor compiles it")
    unet = _Whole(small_unet(LAST))
    with torch.no_grad():
        for each in unet.parameters():
            each.add_(torch.randn_like(each), alpha=0.05)
        sample, text = arguments(1, LAST)
        given = (
            sample,
            torch.tensor(500.0),
            text["encoder_hidden_states"],
            *text["added_cond_kwargs"].values(),
        )
        wanted = unet(*given)[0]
        program = torch.export.export(unet, given, strict=False)
    own = dict(unet.named_parameters())
    inputs = iter(given)
    taken = [
        next(inputs) if spec.target is None else own[spec.target]
        for spec in program.graph_signature.input_specs
    ]
    return program.graph_module, taken, wanted


def count(graph: Any) -> Counter[str]:
    return Counter(str(node.target) for node in graph.graph.nodes)


def test_a_graph_lies_channels_last_from_end_to_end(exported: Any) -> None:
    graph, taken, wanted = exported
    assert count(graph)["aten.contiguous.default"] == 4
    lay_channels_last(graph)
    assert count(graph)["aten.contiguous.default"] == 0
    layouts = []

    class Watching(torch.fx.Interpreter):
        def run_node(self, node: torch.fx.Node) -> Any:
            made = super().run_node(node)
            if isinstance(made, torch.Tensor) and made.ndim == 4 and "conv" in str(node.target):
                layouts.append(made.is_contiguous(memory_format=torch.channels_last))
            if node.target is torch.ops.aten.group_norm.default:
                read = self.env[node.args[0]]
                layouts.append(read.is_contiguous(memory_format=torch.channels_last))
            return made

    with torch.no_grad():
        made = Watching(graph).run(*taken)[0]
    assert torch.allclose(made, wanted, atol=1e-5)
    assert all(layouts)
    assert len(layouts) > 40


def test_joining_other_dimensions_stays() -> None:
    class Joined(nn.Module):
        def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return torch.cat([sample, sample]), torch.cat([sample, sample], -1)

    graph = torch.export.export(Joined(), (picture(1, 2, 3, 4),), strict=False).graph_module
    before = count(graph)
    lay_channels_last(graph)
    assert count(graph) == before


def test_products_of_the_same_rows_are_one(exported: Any) -> None:
    graph, taken, wanted = exported
    products, blocks = count(graph)["aten.linear.default"], 4
    join_products(graph)
    # Queries, keys and values of each block; keys and values of texts stay by themselves.
    assert count(graph)["aten.linear.default"] == products - 2 * blocks
    halves = halved(graph, [isinstance(each, nn.Parameter) for each in taken])
    assert halves.before is not None
    assert count(halves.before)["aten.cat.default"] == blocks
    with torch.no_grad():
        made = graph(*taken)[0]
    assert torch.allclose(made, wanted, atol=1e-5)


def test_other_products_stay_by_themselves() -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)
            self.biased = nn.Linear(4, 4)

        def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
            made = rows * 2
            computed = functional.linear(made, self.other.weight * 2)
            return self.one(rows), self.other(rows), self.one(made), self.biased(made), computed

    graph = torch.export.export(Products(), (torch.randn(2, 4),), strict=False).graph_module
    before = count(graph)
    join_products(graph)
    assert count(graph) == before


class _Attending(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (functional.scaled_dot_product_attention(*given, **self.options),)


class _Wide(torch.fx.Interpreter):
    """Multiplies halves into float32 on the processor as well."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target is torch.ops.aten.mm.dtype:
            assert args[2] is torch.float32
            return args[0].float() @ args[1].float()
        return super().call_function(target, args, kwargs)


def attending(*shape: int, kind: torch.dtype = torch.bfloat16, **options: Any) -> Any:
    """A graph of attention among so many heads, rows and their width; and what it takes."""
    torch.manual_seed(0)
    given = tuple(torch.randn(1, *shape).to(kind) for _ in range(3))
    program = torch.export.export(_Attending(**options), given, strict=False)
    return program.graph_module, given


widens = pytest.mark.skipif(
    not hasattr(torch.ops.aten.mm, "dtype"),
    reason="this torch multiplies no halves into float32",
)


@widens
@pytest.mark.parametrize("scale", [None, 0.1])
@pytest.mark.parametrize("held", [1, 40, 100, 1 << 26])
def test_a_wide_head_attends_by_products(
    monkeypatch: pytest.MonkeyPatch, scale: float | None, held: int
) -> None:
    graph, given = attending(1, 10, 512, scale=scale)
    monkeypatch.setattr(attention, "_MOST_PRODUCTS", held)
    use_products(graph)
    assert count(graph)["aten.mm.dtype"] == {1: 10, 40: 3, 100: 1, 1 << 26: 1}[held]
    made = _Wide(graph).run(*given)[0]
    wanted = functional.scaled_dot_product_attention(*(x.float() for x in given), scale=scale)
    assert (made.shape, made.dtype) == (wanted.shape, torch.bfloat16)
    assert torch.allclose(made.float(), wanted, atol=0.02)


@pytest.mark.parametrize(
    ("shape", "kind", "options"),
    [
        ((2, 6, 512), torch.bfloat16, {}),
        ((1, 6, 256), torch.bfloat16, {}),
        ((1, 6, 512), torch.float32, {}),
        ((1, 6, 512), torch.bfloat16, {"is_causal": True}),
        ((1, 6, 512), torch.bfloat16, {"attn_mask": torch.zeros(6, 6).bfloat16()}),
    ],
)
def test_other_attention_stays(shape: Any, kind: torch.dtype, options: Any) -> None:
    graph, _ = attending(*shape, kind=kind, **options)
    before = count(graph)
    use_products(graph)
    assert count(graph) == before


@widens
@pytest.mark.usefixtures("kernels")
def test_all_that_is_done_to_a_decoder_goes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    decoder = AutoencoderKL(  # type: ignore[no-untyped-call]
        block_out_channels=(512, 512),
        up_block_types=("UpDecoderBlock2D",) * 2,
        down_block_types=("DownEncoderBlock2D",) * 2,
        layers_per_block=1,
        sample_size=8,
    ).decoder
    decoder = decoder.eval().bfloat16().to(memory_format=torch.channels_last)
    latents = picture(1, 4, 6, 10).bfloat16()
    with torch.no_grad():
        wanted = decoder(latents)
        program = torch.export.export(_Tuple(decoder), (latents,), strict=False)
    graph = program.graph_module
    for name in ("has_wide_products", "has_kernels"):
        monkeypatch.setattr(making, name, lambda device: True)
    making.improve(graph, SimpleNamespace(device="cpu", channels_last=True))  # type: ignore[arg-type]
    found = count(graph)
    assert found["aten.mm.dtype"] == 1
    assert found["aten.group_norm.default"] == 1  # of rows, before the attention
    assert found["aten.contiguous.default"] == 0
    own = dict(decoder.named_parameters())
    names = [spec.target for spec in program.graph_signature.input_specs]
    taken = [latents if name is None else own[name.removeprefix("of.")] for name in names]
    with torch.no_grad():
        made = _Wide(graph).run(*taken)[0]
    assert (made - wanted).float().norm() < 0.03 * wanted.float().norm()


class _Tuple(nn.Module):
    def __init__(self, of: nn.Module) -> None:
        super().__init__()
        self.of = of

    def forward(self, given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.of(given),)


def reference(
    sample: Any, added: Any, weight: Any, bias: Any, groups: int, eps: float, activated: bool
) -> torch.Tensor:
    wide = sample.float()
    if added is not None:
        assert added.dtype == torch.float32
        wide = wide + added[:, :, None, None]
    each = (None if one is None else one.float() for one in (weight, bias))
    made = functional.group_norm(wide, groups, *each, eps=eps)
    made = (functional.silu(made) if activated else made).to(sample.dtype)
    return made.contiguous(memory_format=torch.channels_last)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ones for the processor, in the place of those in Triton."""
    name = "domains.inference.backends.compiled.group_norm_kernels"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(run=reference))
    package = sys.modules["domains.inference.backends.compiled"]
    monkeypatch.setattr(package, "group_norm_kernels", sys.modules[name], raising=False)


@pytest.mark.usefixtures("kernels")
def test_kernels_take_what_stands_around_a_normalisation(exported: Any) -> None:
    graph, taken, wanted = exported
    use_kernels(graph)
    found = [node for node in graph.graph.nodes if node.target is OPERATOR]
    # Two of each of the eight residual blocks, one of each transformer, one at the end.
    assert len(found) == 8 * 2 + 4 + 1
    assert sum(node.args[6] for node in found) == 8 * 2 + 1
    assert sum(node.args[1] is not None for node in found) == 8
    assert count(graph)["aten.group_norm.default"] == 0
    with torch.no_grad():
        made = graph(*taken)[0]
    assert torch.allclose(made, wanted, atol=1e-5)


@pytest.mark.usefixtures("kernels")
def test_what_is_read_elsewhere_too_stays_around_a_normalisation() -> None:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4)

        def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor, ...]:
            convolved = self.first(sample)
            normed = self.norm(convolved)
            return convolved, normed, functional.silu(normed)

    read, sample = Read().requires_grad_(False), picture(1, 4, 6, 6)
    program = torch.export.export(read, (sample,), strict=False)
    use_kernels(program.graph_module)
    made = program.graph_module(*read.parameters(), sample)
    for one, other in zip(made, read(sample), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_there_are_kernels_where_triton_makes_some(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "triton")
    assert has_kernels(torch.device("cuda:0"))
    assert not has_kernels(torch.device("cpu"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert not has_kernels(torch.device("cuda:0"))
