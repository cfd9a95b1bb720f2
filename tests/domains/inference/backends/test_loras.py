"""LoRAs at work: as diffusers and the formulas say, and gone afterwards."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from domains.device.jobs import ReleaseJob
from domains.errors import Cancelled, FailedPrecondition, Reason
from domains.inference.backends.lora_changes import whole_change
from domains.inference.backends.lora_shelf import LoraShelf
from domains.inference.jobs import Companion
from domains.inference.types import LoraWeight, PrecisionMode
from domains.model.backends.lora.endings import Algorithm
from domains.model.types import ModelType
from domains.session.types import StepFinished
from domains.values import ModelPlace
from tests.domains.inference.backends.conftest import MODEL, unload_loras
from tests.domains.inference.backends.test_oracle import same
from tests.fakes.jobs import Listener, changed

SMALL = {"width": 64, "height": 64, "steps": 2}
REFERENCE = {"width": 64, "height": 64, "num_inference_steps": 2}
LINES, PIXELS = (MODEL.parent / f"{name}-art.safetensors" for name in ("line", "pixel"))
# peft speaks up about every adapter beside the first.
pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
UNET = "lora_unet_down_blocks_0_resnets_0_conv1"


def using(*loras: tuple[Path, float, float]) -> dict:
    """Settings and places of LoRAs, with their weights."""
    return {
        "loras": tuple(LoraWeight(path.stem, unet, text) for path, unet, text in loras),
        "companions": tuple(
            Companion(path.stem, ModelType.LORA, ModelPlace.of(path)) for path, _, _ in loras
        ),
    }


def random_pair(
    name: str, shape: tuple[int, ...], rank: int, alpha: float | None, seed: int
) -> dict[str, torch.Tensor]:
    """A kohya LoRA of one layer with weights of that shape."""
    noise = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, *shape[1:], generator=noise) * 0.1
    up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=noise) * 0.1
    pair = {"lora_down.weight": down, "lora_up.weight": up}
    if alpha is not None:
        pair["alpha"] = torch.tensor(alpha)
    return {f"{name}.{part}": tensor for part, tensor in pair.items()}


@pytest.fixture
def mixed(tmp_path: Path, pipeline) -> Path:
    """Both text encoders, a linear layer and a convolution; ranks and alphas differ, but for a
    text encoder's attention, whose alpha diffusers does not read."""
    tensors: dict[str, torch.Tensor] = {}
    wanted = [
        ("lora_te1_", pipeline.text_encoder, "self_attn.q_proj", 4, None),
        # diffusers tells what kind of file it is by this layer.
        ("lora_te1_", pipeline.text_encoder, "self_attn.out_proj", 4, None),
        ("lora_te2_", pipeline.text_encoder_2, "mlp.fc1", 3, 6.0),
        ("lora_unet_", pipeline.unet, "ff.net.0.proj", 2, 1.0),
        ("lora_unet_", pipeline.unet, "conv1", 5, 2.5),
    ]
    for number, (prefix, network, ending, rank, alpha) in enumerate(wanted):
        name, module = next(
            (name, one) for name, one in network.named_modules() if name.endswith(ending)
        )
        if prefix != "lora_unet_" and not name.startswith("text_model."):
            name = f"text_model.{name}"
        layer = prefix + name.replace(".", "_")
        tensors |= random_pair(layer, tuple(module.weight.shape), rank, alpha, number)
    path = tmp_path / "mixed.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture
def adapted(pipeline, reference):
    """Pictures of the reference pipeline with LoRAs."""

    def call(*loras: tuple[Path, float, float]):
        try:
            for path, _, _ in loras:
                pipeline.load_lora_weights(
                    str(path.parent), weight_name=path.name, adapter_name=path.stem
                )
            weights = [
                {"unet": unet, "text_encoder": text, "text_encoder_2": text}
                for _, unet, text in loras
            ]
            pipeline.set_adapters([path.stem for path, _, _ in loras], weights)
            return reference(**REFERENCE)
        finally:
            unload_loras(pipeline)

    return call


def test_one_is_bit_identical_to_diffusers(draw, adapted):
    drawn = draw(**SMALL, **using((LINES, 0.8, 0.8)))
    same(drawn, adapted((LINES, 0.8, 0.8)))


def test_several_are_bit_identical_to_diffusers(draw, adapted):
    loras = ((LINES, 0.7, 0.7), (PIXELS, -0.4, -0.4))
    same(draw(**SMALL, **using(*loras)), adapted(*loras))


def test_text_encoders_and_convolutions_are_bit_identical_to_diffusers(draw, adapted, mixed):
    loras = ((mixed, 0.9, 1.3), (LINES, 0.5, 0.5))
    same(draw(**SMALL, **using(*loras)), adapted(*loras))


def test_text_encoders_have_a_weight_of_their_own(draw, mixed):
    plain = draw(**SMALL).latents[0]
    unet, text = (draw(**SMALL, **using((mixed, *w))).latents[0] for w in ((1, 0), (0, 1)))
    assert not torch.equal(plain, unet)
    assert not torch.equal(plain, text)
    assert not torch.equal(unet, text)


@pytest.mark.demonstration
def test_line_art_takes_colour_away_by_its_weight(draw):
    size = {"steps": 8}
    plain = draw(**size)

    def saturation(drawn) -> float:
        pixels = drawn.pixels[0].astype(float)
        return float(np.mean(pixels.max(-1) - pixels.min(-1)))

    lines = draw(**size, **using((LINES, 1, 1)))
    assert saturation(lines) < saturation(plain) / 2
    assert draw(**size, **using((LINES, 0, 0))).images[0].data is not None
    nothing = draw(**size, **using((LINES, 0, 0)))
    assert np.array_equal(nothing.pixels[0], plain.pixels[0])
    assert not np.array_equal(draw(**size, **using((LINES, -1, -1))).pixels[0], plain.pixels[0])


def test_no_request_changes_what_the_next_one_sees(draw, mixed):
    sets = [(), ((LINES, 1, 1),), ((PIXELS, -0.5, 1), (mixed, 2, -2)), ((mixed, 0, 1),)]
    size = {"width": 64, "height": 64, "steps": 1}
    first = [draw(**size, **using(*loras)).images[0].data for loras in sets]
    assert len(set(first)) == len(sets)
    order = random.Random(7)
    for which in (order.randrange(len(sets)) for _ in range(12)):
        assert draw(**size, **using(*sets[which])).images[0].data == first[which]


def test_a_weight_of_zero_is_no_lora(draw):
    size = {"width": 64, "height": 64, "steps": 1}
    plain = draw(**size).latents[0]
    drawn = draw(**size, **using((LINES, 0, 0), (PIXELS, 0, 0))).latents[0]
    assert torch.equal(drawn, plain)


def test_one_that_does_not_fit_is_refused_by_name_and_leaves_nothing(draw, tmp_path):
    plain = draw(**SMALL).images[0].data
    path = tmp_path / "odd.safetensors"
    save_file(random_pair(UNET, (7, 7, 3, 3), 2, 1.0, 0), path)
    with pytest.raises(FailedPrecondition, match="odd cannot be applied") as caught:
        draw(**SMALL, **using((LINES, 1, 1), (path, 1, 1)))
    assert caught.value.reason is Reason.MODEL_INCOMPATIBLE
    assert draw(**SMALL).images[0].data == plain


def test_one_that_is_cancelled_on_the_way_leaves_nothing(draw, engine, work, mixed):
    """Neither in the networks nor in the prompts that are used again."""
    size = {"width": 64, "height": 64, "steps": 3}
    plain = draw(**size).images[0].data
    using_it = using((mixed, 1, 1), (LINES, 1, 1))

    def hooks() -> int:
        networks = engine._model.networks.values()
        return sum(len(one._forward_hooks) for each in networks for one in each.modules())

    def frozen() -> bool:
        """As peft freezes a network, which decides about last bits."""
        (asked,) = {
            weight.requires_grad for weight in engine._model.networks["unet"].parameters()
        }
        return not asked

    before = hooks()

    def stop() -> None:
        if any(isinstance(event, StepFinished) for event in heard.events):
            assert frozen()
            raise Cancelled("stopped")

    heard = Listener(stop)
    with pytest.raises(Cancelled):
        engine.generate(changed(work, **size, **using_it), heard)

    assert hooks() == before  # transformers has some of its own
    assert not frozen()
    assert draw(**size).images[0].data == plain


def test_they_are_kept_counted_and_released_by_name(draw, engine):
    size = {"width": 64, "height": 64, "steps": 1}
    engine.release(ReleaseJob(), Listener())
    draw(**size, **using((LINES, 1, 1), (PIXELS, 1, 1)))

    def held() -> dict[str, int]:
        return {
            one.model_id: one.size.value for one in engine.held() if one.component == "lora"
        }

    assert set(held()) == {"line-art", "pixel-art"}
    assert min(held().values()) > 0
    report = engine.release(ReleaseJob(("line-art",)), Listener())
    assert [one.model_id for one in report.released] == ["line-art"]
    assert set(held()) == {"pixel-art"}
    assert engine.loaded_path is not None  # the checkpoint stays
    engine.release(ReleaseJob(), Listener())
    assert held() == {}


def test_those_that_work_uses_stay_when_memory_is_short(tmp_path):
    shelf = LoraShelf(torch.device("cpu"))
    first = shelf.get("line-art", ModelPlace.of(LINES))
    shelf.end_work()
    second = shelf.get("pixel-art", ModelPlace.of(PIXELS))

    gone = shelf.let_go()

    assert [one.model_id for one in gone] == ["line-art"]
    assert shelf.get("pixel-art", ModelPlace.of(PIXELS)).changes is second.changes
    assert shelf.get("line-art", ModelPlace.of(LINES)).changes is not first.changes


def test_one_that_the_catalogue_names_anew_is_kept_by_its_new_name():
    shelf = LoraShelf(torch.device("cpu"))
    before = shelf.get("line-art", ModelPlace.of(LINES))
    after = shelf.get("ink", ModelPlace.of(LINES))
    shelf.end_work()

    assert after.changes is before.changes
    assert shelf.let_go(("line-art",)) == ()
    assert [one.model_id for one in shelf.let_go(("ink",))] == ["ink"]


def test_the_ones_used_longest_ago_give_way_to_others(tmp_path):
    shelf = LoraShelf(torch.device("cpu"))
    tensors = random_pair(UNET, (8, 8, 3, 3), 2, 1.0, 0)
    for number in range(18):
        path = tmp_path / f"{number}.safetensors"
        save_file(tensors, path)
        shelf.get(path.stem, ModelPlace.of(path))
        if number != 3:
            shelf.end_work()
    kept = [one.model_id for one in shelf.components()]
    assert kept == [str(number) for number in range(2, 18)]


def test_compiled_code_steps_aside_and_comes_back(draw, engine):
    """Hooks would go unheard in it."""
    size = {"width": 64, "height": 64, "steps": 1}
    lined = draw(**size, **using((LINES, 1, 1))).images[0].data
    block = engine._model.networks["unet"].mid_block
    calls = []

    def compiled(*arguments, **named):
        calls.append(block)
        return block._call_impl(*arguments, **named)

    block._compiled_call_impl = compiled
    try:
        again = draw(**size, **using((LINES, 1, 1))).images[0].data
        assert (again, calls) == (lined, [])
        draw(**size)
        assert calls == [block]
    finally:
        block._compiled_call_impl = None


def test_they_work_in_the_fastest_precision_too(draw):
    size = {"width": 64, "height": 64, "steps": 1, "precision": PrecisionMode.FASTEST}
    plain = draw(**size)
    lined = draw(**size, **using((LINES, 1, 1)))
    assert lined.images[0].data != plain.images[0].data
    assert torch.isfinite(lined.latents[0]).all()


def test_a_file_that_changed_is_read_anew(draw, tmp_path, pipeline):
    shape = tuple(pipeline.unet.down_blocks[0].resnets[0].conv1.weight.shape)
    path = tmp_path / "changing.safetensors"
    pictures = []
    for rank in (2, 3):
        save_file(random_pair(UNET, shape, rank, 1.0, rank), path)
        pictures.append(draw(**SMALL, **using((path, 1, 1))).images[0].data)
    assert pictures[0] != pictures[1]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_loha_and_lokr_by_their_formulas():
    weight = noise(6, 4)
    a, b, c, d = noise(6, 2), noise(2, 4), noise(6, 2) + 1, noise(2, 4) - 1
    loha = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d}
    found = whole_change(Algorithm.LOHA, loha | {"alpha": torch.tensor(1.0)}, weight)
    assert torch.allclose(found, (a @ b) * (c @ d) * 0.5)
    first, second = noise(2, 2), noise(3, 2)
    found = whole_change(
        Algorithm.LOKR,
        {"lokr_w1": first, "lokr_w2": second, "alpha": torch.tensor(9.0)},
        weight,
    )
    expected = torch.cat(
        [torch.cat([first[i, j] * second for j in range(2)], 1) for i in range(2)]
    )
    assert torch.allclose(found, expected)


def test_lokr_of_a_convolution_by_its_factors():
    weight, first, a, b = noise(6, 4, 3, 3), noise(2, 2), noise(3, 2), noise(2, 2 * 9)
    parts = {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(1.0)}
    found = whole_change(Algorithm.LOKR, parts, weight)
    second = (a @ b).reshape(3, 2, 3, 3)
    assert torch.allclose(found[3:, 2:], first[1, 1] * second * 0.5, atol=1e-6)


def test_dora_gives_each_output_the_norm_of_its_magnitude():
    weight, down, up = noise(6, 4), noise(2, 4), noise(6, 2)
    magnitude = noise(6).abs() + 1
    parts = {"down": down, "up": up, "magnitude": magnitude}
    changed = weight + whole_change(Algorithm.LORA, parts, weight)
    assert torch.allclose(changed.norm(dim=1), magnitude)
    assert torch.allclose(
        torch.nn.functional.normalize(changed),
        torch.nn.functional.normalize(weight + up @ down),
        atol=1e-6,
    )


def test_dora_works_in_a_model(draw, tmp_path, pipeline):
    weight = pipeline.unet.down_blocks[0].resnets[0].conv1.weight
    own = torch.linalg.vector_norm(weight.detach().float(), dim=(1, 2, 3), keepdim=True)
    tensors = random_pair(UNET, tuple(weight.shape), 2, 1.0, 3)
    tensors[f"{UNET}.lora_up.weight"] *= 0
    drawn = []
    for factor in (1.0, 1.5):
        path = tmp_path / f"dora-{factor}.safetensors"
        save_file(tensors | {f"{UNET}.dora_scale": own * factor}, path)
        drawn.append(draw(**SMALL, **using((path, 1, 1))).latents[0])
    plain = draw(**SMALL).latents[0]
    # A magnitude that is the layer's own norm changes nothing but roundings.
    assert torch.allclose(drawn[0], plain, atol=1e-3)
    assert not torch.allclose(drawn[1], plain, atol=1e-2)
