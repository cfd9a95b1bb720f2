"""IP-Adapters held against checkpoints and image encoders by their headers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends import image_prompt_fit
from domains.inference.backends.image_prompt_fit import ImagePromptFits
from domains.model.types import ModelType
from tests.domains.inference.backends.conftest import MODEL
from tests.domains.inference.backends.test_lora_fit import CHECKPOINT, model
from tests.domains.model.image_prompts import (
    FULL_FACE,
    HIDDEN,
    KINDS,
    PLAIN,
    PLUS,
    PROJECTED,
    adapter_file,
    adapter_tensors,
    encoder_folder,
)

ADAPTER, ENCODER = ModelType.IMAGE_PROMPT_ADAPTER, ModelType.IMAGE_ENCODER


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_worker_applies_fits(tmp_path: Path, kind: str) -> None:
    adapter = model(adapter_file(tmp_path / "adapter.safetensors", kind), ADAPTER)
    ImagePromptFits().check(adapter, CHECKPOINT)
    comic = model(MODEL.parent / "emoji-comic.safetensors", ModelType.CHECKPOINT)
    ImagePromptFits().check(adapter, comic)  # the same layers, in one file


def test_layers_in_another_order_do_not_fit(tmp_path: Path) -> None:
    tensors = adapter_tensors(PLAIN)
    last = max(int(name.split(".")[1]) for name in tensors if name.startswith("ip_adapter."))
    for side in ("k", "v"):
        first, other = (f"ip_adapter.{n}.to_{side}_ip.weight" for n in (1, last))
        assert tensors[first].shape != tensors[other].shape
        tensors[first], tensors[other] = tensors[other], tensors[first]
    save_file(tensors, tmp_path / "turned.safetensors")
    adapter = model(tmp_path / "turned.safetensors", ADAPTER)
    with pytest.raises(FailedPrecondition) as caught:
        ImagePromptFits().check(adapter, CHECKPOINT)
    assert caught.value.reason is Reason.MODEL_INCOMPATIBLE
    assert "turned" in caught.value.message
    assert "emoji-xl" in caught.value.message


def test_each_kind_reads_what_it_was_trained_on(tmp_path: Path) -> None:
    fits = ImagePromptFits()
    encoders = {
        (hidden, projected): model(
            encoder_folder(
                tmp_path / f"{hidden}-{projected}", hidden_size=hidden, projection_dim=projected
            ),
            ENCODER,
        )
        for hidden in (HIDDEN, 2 * HIDDEN)
        for projected in (PROJECTED, 2 * PROJECTED)
    }
    for kind, place, width in (
        (PLAIN, 1, PROJECTED),
        (PLUS, 0, HIDDEN),
        (FULL_FACE, 0, HIDDEN),
    ):
        adapter = model(adapter_file(tmp_path / f"{kind}.safetensors", kind), ADAPTER)
        for widths, encoder in encoders.items():
            assert fits.reads(adapter, encoder) is (widths[place] == width), (kind, widths)


def test_headers_are_read_once_while_files_are_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = model(adapter_file(tmp_path / "adapter.safetensors"), ADAPTER)
    fits = ImagePromptFits()
    fits.check(adapter, CHECKPOINT)

    def read(*_: object) -> None:
        raise AssertionError("a header was read again")

    monkeypatch.setattr(image_prompt_fit, "plan_lone", read)
    fits.check(adapter, CHECKPOINT)
    with pytest.raises(AssertionError):
        fits.check(model(adapter.place.path, ADAPTER, size=2), CHECKPOINT)


def test_one_that_is_damaged_says_so(tmp_path: Path) -> None:
    tensors = {k: v for k, v in adapter_tensors(PLAIN).items() if ".3.to_v_ip" not in k}
    save_file(tensors | {"odd": torch.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(FailedPrecondition) as caught:
        ImagePromptFits().check(model(tmp_path / "odd.safetensors", ADAPTER), CHECKPOINT)
    assert caught.value.reason is Reason.MODEL_INCOMPLETE
