"""Layers and graphs as compilers are given them: the same results."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.nn import functional

from domains.inference.backends.compiled.group_norm import OPERATOR
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


def reference(
    sample: Any, added: Any, weight: Any, bias: Any, groups: int, eps: float, activated: bool
) -> torch.Tensor:
    if added is not None:
        assert added.dtype == torch.float32
        sample = sample + added[:, :, None, None]
    made = functional.group_norm(sample, groups, weight, bias, eps)
    made = functional.silu(made) if activated else made
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
