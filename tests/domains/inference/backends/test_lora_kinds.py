"""LoRAs of other kinds and names on whole models, against peft's own layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import save_file

from tests.domains.inference.backends.test_loras import REFERENCE, SMALL, using

pytestmark = pytest.mark.demonstration
ALPHA, RANK = 2.0, 4
TARGETS = ["to_q", "to_v", "ff.net.2", "proj_in"]
CONVOLUTIONS = ["conv1", "conv_shortcut"]
KINDS = {
    "loha": lambda: peft.LoHaConfig(
        r=RANK, alpha=ALPHA, target_modules=TARGETS + CONVOLUTIONS, init_weights=False
    ),
    "loha, factored kernels": lambda: peft.LoHaConfig(
        r=RANK,
        alpha=ALPHA,
        target_modules=CONVOLUTIONS,
        init_weights=False,
        use_effective_conv2d=True,
    ),
    "lokr": lambda: peft.LoKrConfig(
        r=RANK, alpha=ALPHA, target_modules=TARGETS + CONVOLUTIONS, init_weights=False
    ),
    "lokr, both factored": lambda: peft.LoKrConfig(
        r=1, alpha=ALPHA, target_modules=TARGETS, init_weights=False, decompose_both=True
    ),
    "peft's names": lambda: peft.LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules=TARGETS, init_lora_weights=False
    ),
}


def lycoris(unet: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """What peft put into a network, by LyCORIS' names."""
    for name, module in unet.named_modules():
        own = [part for part in dir(module) if part.startswith(("hada_", "lokr_"))]
        found = {part: getattr(module, part) for part in own}
        found = {part: held["x"] for part, held in found.items() if "x" in held}
        if found and not any(part.endswith("_b") for part in found):
            # Without a rank LyCORIS takes alpha for 1, and peft for what is configured.
            found["lokr_w1"] = found["lokr_w1"] * (ALPHA / RANK)
        for part, tensor in found.items():
            yield f"lycoris_unet_{name.replace('.', '_')}.{part}", tensor.detach().clone()
        if found:
            yield f"lycoris_unet_{name.replace('.', '_')}.alpha", torch.tensor(ALPHA)


def named_by_peft(unet: Any) -> Iterator[tuple[str, torch.Tensor]]:
    state = peft.get_peft_model_state_dict(unet, adapter_name="x")
    for name, tensor in state.items():
        yield f"base_model.model.unet.{name}", tensor.detach().clone()


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_whole_model_is_changed_as_peft_changes_it(
    draw: Any, reference: Any, pipeline: Any, tmp_path: Path, kind: str
) -> None:
    torch.manual_seed(11)
    plain, unet = pipeline.unet, copy.deepcopy(pipeline.unet)
    peft.inject_adapter_in_model(KINDS[kind](), unet, "x")
    names = named_by_peft if kind == "peft's names" else lycoris
    tensors = dict(names(unet))
    assert len(tensors) > 8
    path = tmp_path / "kind.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    pipeline.unet = unet
    try:
        _, expected = reference(**REFERENCE)
    finally:
        pipeline.unet = plain
    _, before = reference(**REFERENCE)

    drawn = draw(**SMALL, **using((path, 1, 1))).latents[0]

    effect = float((expected - before).abs().max())
    assert effect > 0.01
    assert float((drawn - expected).abs().max()) < 0.01 * effect
