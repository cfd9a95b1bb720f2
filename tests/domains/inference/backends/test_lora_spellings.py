"""One change of a model, written down by other programs: the picture is the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.domains.inference.backends.conftest import MODEL
from tests.domains.inference.backends.test_loras import LINES, PIXELS, UNET, random_pair, using

TINY = {"width": 64, "height": 64, "steps": 1}
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def with_lora(draw: Any, tmp_path: Path) -> Callable[..., torch.Tensor]:
    """Latents of a small picture with a LoRA of these tensors."""

    def call(tensors: Tensors, metadata: dict[str, str] | None = None) -> torch.Tensor:
        path = tmp_path / "spelled.safetensors"
        save_file({name: one.contiguous() for name, one in tensors.items()}, path, metadata)
        found: torch.Tensor = draw(**TINY, **using((path, 1, 1))).latents[0]
        return found

    return call


@pytest.fixture
def lined(draw: Any) -> torch.Tensor:
    found: torch.Tensor = draw(**TINY, **using((LINES, 1, 1))).latents[0]
    return found


@pytest.fixture
def plain(draw: Any) -> torch.Tensor:
    found: torch.Tensor = draw(**TINY).latents[0]
    return found


def test_without_alpha_it_is_the_rank(with_lora: Any, lined: torch.Tensor) -> None:
    tensors = load_file(LINES)
    ranks = {
        name.replace(".lora_down.weight", ".alpha"): torch.tensor(float(one.shape[0]))
        for name, one in tensors.items()
        if name.endswith(".lora_down.weight")
    }
    bare = {name: one for name, one in tensors.items() if not name.endswith(".alpha")}

    assert torch.equal(with_lora(bare), with_lora(bare | ranks))
    halves = {name: one / 2 for name, one in ranks.items()}
    assert not torch.equal(with_lora(bare | halves), with_lora(bare))
    assert torch.equal(with_lora(bare), lined)


def further_layers(unet: Any) -> Tensors:
    """What LyCORIS' LoCon changes beside attention: time, shortcuts, and what changes sizes."""
    layers = {
        "lora_unet_input_blocks_4_0_emb_layers_1": "down_blocks.1.resnets.0.time_emb_proj",
        "lora_unet_input_blocks_4_0_skip_connection": "down_blocks.1.resnets.0.conv_shortcut",
        "lora_unet_input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
    }
    tensors: Tensors = {}
    for number, (name, own) in enumerate(layers.items()):
        shape = tuple(unet.get_submodule(own).weight.shape)
        tensors |= random_pair(name, shape, 4, 2.0, number)
    return tensors


def test_layers_beside_attention_are_changed_too(
    with_lora: Any, pipeline: Any, lined: torch.Tensor
) -> None:
    tensors, further = load_file(LINES), further_layers(pipeline.unet)
    assert not tensors.keys() & further.keys()
    nothing = {n: one * 0 if ".lora_up." in n else one for n, one in further.items()}

    assert torch.equal(with_lora(tensors | nothing), lined)
    for layer in {name.split(".")[0] for name in further}:
        one = {name: tensor for name, tensor in further.items() if name.startswith(layer)}
        assert not torch.equal(with_lora(tensors | one), lined), layer


def test_a_magnitude_counts_by_either_name(
    with_lora: Any, pipeline: Any, plain: torch.Tensor
) -> None:
    own = "down_blocks.0.resnets.0.conv1"
    weight = pipeline.unet.get_submodule(own).weight.detach()
    pair = random_pair(UNET, tuple(weight.shape), 2, None, 3)
    down, up = pair[f"{UNET}.lora_down.weight"], pair[f"{UNET}.lora_up.weight"]
    magnitude = 1.5 * torch.linalg.vector_norm(weight, dim=(1, 2, 3))
    by_peft = {f"unet.{own}.lora_A.weight": down, f"unet.{own}.lora_B.weight": up}

    kohya = with_lora(pair | {f"{UNET}.dora_scale": magnitude.reshape(-1, 1, 1, 1)})
    for name, shaped in (
        ("lora_magnitude_vector", magnitude),
        ("lora_magnitude_vector.weight", magnitude.reshape(1, -1, 1, 1)),
        ("lora_magnitude_vector.default.weight", magnitude),
    ):
        drawn = with_lora(by_peft | {f"unet.{own}.{name}": shaped})
        assert torch.equal(drawn, kohya), name
    assert not torch.equal(kohya, with_lora(by_peft))
    assert not torch.equal(kohya, plain)


def as_loha(tensors: Tensors) -> Tensors:
    """The same changes as products of two matrices, of which the second is all ones."""
    found: Tensors = {}
    for name, down in tensors.items():
        layer = name.removesuffix(".lora_down.weight")
        if layer == name:
            continue
        up = tensors[f"{layer}.lora_up.weight"].float().flatten(1)
        down = down.float().flatten(1)
        ones_a, ones_b = torch.zeros_like(up), torch.zeros_like(down)
        ones_a[:, 0], ones_b[0] = 1, 1
        found |= {
            f"{layer}.{part}": one
            for part, one in (
                *(("hada_w1_a", up), ("hada_w1_b", down)),
                *(("hada_w2_a", ones_a), ("hada_w2_b", ones_b)),
                ("alpha", tensors[f"{layer}.alpha"]),
            )
        }
    return found


def test_a_loha_of_the_same_change(
    with_lora: Any, lined: torch.Tensor, plain: torch.Tensor
) -> None:
    drawn = with_lora(as_loha(load_file(LINES)))

    effect = float((lined - plain).abs().max())
    assert effect > 0.05
    assert float((drawn - lined).abs().max()) < 1e-3 * effect


NAMES: dict[str, Callable[[str], str]] = {
    "peft's wrapper": lambda name: f"base_model.model.{name}",
    "the adapter's name": lambda name: name.replace(".weight", ".default.weight"),
    "no network": lambda name: name.removeprefix("unet."),
    "all of them": lambda name: (
        f"base_model.model.{name.removeprefix('unet.').replace('.weight', '.default.weight')}"
    ),
}


@pytest.mark.parametrize(
    "spelled",
    [
        pytest.param(name, marks=() if name == "all of them" else pytest.mark.demonstration)
        for name in NAMES
    ],
)
def test_names_by_other_trainers(draw: Any, with_lora: Any, spelled: str) -> None:
    renamed = {NAMES[spelled](name): one for name, one in load_file(PIXELS).items()}
    assert not renamed.keys() & load_file(PIXELS).keys()

    assert torch.equal(with_lora(renamed), draw(**TINY, **using((PIXELS, 1, 1))).latents[0])


def test_what_metadata_says_changes_nothing(with_lora: Any, lined: torch.Tensor) -> None:
    odd = {
        **{"ss_tag_frequency": "{no JSON", "ss_network_dim": "Dynamic"},
        **{"ss_network_alpha": "Dynamic", "ss_network_args": "[", "modelspec.tags": ","},
    }
    assert torch.equal(with_lora(load_file(LINES), odd), lined)


@pytest.fixture(scope="module")
def eight_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with its UNet's weights in eight bits."""
    folder = tmp_path_factory.mktemp("models") / "emoji-eight"
    shutil.copytree(MODEL, folder)
    for file in (folder / "unet").glob("*.safetensors"):
        tensors = {name: one.to(torch.float8_e4m3fn) for name, one in load_file(file).items()}
        save_file(tensors, file)
    return folder


def test_weights_of_eight_bits_are_changed_alike_each_time(draw: Any, eight_bits: Path) -> None:
    model = {"model_id": eight_bits.name, "model_path": eight_bits}

    drawn = [draw(**TINY, **model, **using((LINES, 1, 1))).latents[0] for _ in range(3)]

    assert all(torch.equal(one, drawn[0]) for one in drawn)
    assert not torch.equal(draw(**TINY, **model).latents[0], drawn[0])
