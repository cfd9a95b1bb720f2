"""Compiled code of a UNet on a card, recorded in two: what steps share, and each step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from domains.inference.backends.compilation import runs_code, use_code, without_compiled_code
from domains.inference.backends.compiled.shelf import CodeShelf
from domains.inference.backends.compiled.trial import most_difference
from domains.inference.backends.device import Numerics
from domains.inference.backends.step_graphs import StepGraphs, recorder_for
from tests.domains.inference.backends.compiled_unet import arguments, small_unet
from tests.domains.inference.backends.test_step_graphs import Net, Parted

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, while it loads
]
NUMERICS, CARD = Numerics(torch.float16, channels_last=True), "cuda:0"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> CodeShelf:
    return CodeShelf(tmp_path_factory.mktemp("compiled") / "compiled")


@pytest.fixture(scope="module")
def unet(shelf: CodeShelf) -> Any:
    """It has code, whether that pays for something so small or not."""
    unet = small_unet(NUMERICS, CARD)
    with torch.no_grad():
        use_code(unet, "", NUMERICS, shelf, lambda: recorder_for(torch.device(CARD)))
        sample, text = arguments(0, NUMERICS, CARD)
        unet(sample, torch.tensor(500.0, device=CARD), **text)
        shelf.settled(lambda: None)
        call = unet._compiled_call_impl
        ((key, asked),) = call._asked.items()
        code = shelf.code(asked.order)
        assert code is not None
        call._adopted[key] = code.of(unet)
    assert runs_code(unet)
    return unet


def differs(made: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((made.float() - wanted.float()).norm() / wanted.float().norm())


def test_every_picture_has_its_own_text_and_the_weights_there_are(unet: Any) -> None:
    graphs = StepGraphs(recorder_for(torch.device(CARD)), torch.device(CARD))
    with torch.no_grad():
        for picture in range(4):
            if picture == 2:
                for each in unet.parameters():
                    each.mul_(1.05)  # in place, as another checkpoint is put in
            call = graphs.bound(unet)
            _, text = arguments(picture % 2, NUMERICS, CARD)
            for step in range(3):
                sample, _ = arguments(10 * picture + step, NUMERICS, CARD)
                timestep = torch.tensor(900.0 - 300 * step, device=CARD)
                made = call(sample, timestep, **text)[0]
                with without_compiled_code(unet):
                    wanted = unet(sample, timestep, **text)[0]
                assert differs(made, wanted) < most_difference(NUMERICS.data_type)
    assert graphs.count == 1
    assert graphs.replays == 11


def test_pictures_take_turns(unet: Any) -> None:
    graphs = StepGraphs(recorder_for(torch.device(CARD)), torch.device(CARD))
    calls = [graphs.bound(unet), graphs.bound(unet)]
    texts = [arguments(seed, NUMERICS, CARD)[1] for seed in (3, 4)]
    sample, _ = arguments(5, NUMERICS, CARD)
    timestep = torch.tensor(500.0, device=CARD)
    with torch.no_grad():
        found = [
            [calls[each](sample, timestep, **texts[each])[0] for each in (0, 1)]
            for _ in range(3)
        ]
    for first, second in found[1:]:
        assert torch.equal(first, found[1][0])
        assert torch.equal(second, found[1][1])
        assert not torch.equal(first, second)


def test_an_interval_of_guidance_after_a_guided_picture() -> None:
    """What was recorded first works where the other one keeps what its steps share."""
    net, parted = Net().to(CARD).requires_grad_(False), Parted()
    net._compiled_call_impl = parted  # type: ignore[assignment]
    graphs = StepGraphs(recorder_for(torch.device(CARD)), torch.device(CARD))
    guided, alone = torch.ones(2, 4, device=CARD), torch.full((1, 4), 2.0, device=CARD)
    with torch.no_grad():
        for picture in ((guided,), (alone, guided, alone), (alone, guided, alone)):
            unet = graphs.bound(net)
            for text in picture:
                for step in range(3):
                    sample = torch.randn(2, 4, device=CARD)
                    how: Any = {"return_dict": False, "added": {"bias": text}}
                    timestep = torch.tensor(float(step), device=CARD)
                    wanted = parted(sample, timestep, **how)[0]
                    assert torch.equal(unet(sample, timestep, **how)[0], wanted)
    assert graphs.count == 2
