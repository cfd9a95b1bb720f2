"""Edges that continue: networks know no edge any more, and know it again afterwards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from msgspec.structs import replace
from safetensors.torch import save_file
from torch import nn

from domains.errors import Cancelled
from domains.inference.backends import denoiser_use
from domains.inference.backends.device import Numerics
from domains.inference.backends.enlarging import enlarge_latents, enlarge_pixels
from domains.inference.backends.lora_layers import on_denoiser
from domains.inference.backends.previews import draw_preview
from domains.inference.backends.seamless import NO_EDGES, Edges, seamless_convolutions
from domains.inference.backends.step_graphs import StepGraphs
from domains.inference.backends.vae import decode, decode_in_tiles, encode, encode_in_tiles
from domains.inference.types import GuidanceSettings, SecondPass, Toggle
from domains.session.types import PreviewSettings
from domains.values import DegradationKind
from tests.domains.inference.backends.test_loras import UNET, random_pair, using
from tests.fakes.jobs import Listener, changed

SMALL = {"width": 128, "height": 128, "steps": 2}
BOTH = Edges(horizontally=True, vertically=True)
LYING, STANDING = Edges(horizontally=True), Edges(vertically=True)
EVERYWHERE = [(LYING, -1), (STANDING, -2), (BOTH, -1), (BOTH, -2)]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def seam(pixels: Any, axis: int) -> float:
    """How much colours change over the edge, beside how much they do elsewhere."""
    moved = np.moveaxis(np.asarray(pixels, float), axis, 0)
    inside = np.abs(np.diff(moved, axis=0)).mean()
    return float(np.abs(moved[0] - moved[-1]).mean() / inside)


@pytest.fixture
def networks(draw, engine) -> dict[str, nn.Module]:
    draw(**SMALL)
    return engine._model.networks


@pytest.fixture
def vae() -> AutoencoderKL:
    """Small, random, in parts like the real ones."""
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
    ).eval()


NUMERICS = Numerics(torch.float32)
CONFIG = {
    "scaling_factor": 0.18215,
    "block_out_channels": (16, 32, 32, 32),
    "latents_mean": None,
    "latents_std": None,
}


def rolled_alike(
    run: Callable[[torch.Tensor], torch.Tensor], given: torch.Tensor, axis: int, by: int
) -> bool:
    """Whether what is rolled before is what is rolled afterwards."""
    with torch.no_grad():
        result = run(given)
        moved = by * result.shape[axis] // given.shape[axis]
        difference = run(given.roll(by, axis)) - result.roll(moved, axis)
    return bool(difference.norm() < 1e-4 * result.norm())


@pytest.mark.parametrize(("edges", "axis"), EVERYWHERE)
def test_a_unet_and_a_vae_know_no_edge(networks, vae, edges, axis):
    unet: Any = networks["unet"]
    hidden, added = noise(1, 77, unet.config.cross_attention_dim), noise(1, 6).abs()
    conditions = {
        "text_embeds": noise(1, unet.config.projection_class_embeddings_input_dim - 6 * 32),
        "time_ids": added,
    }
    if unet.config.addition_embed_type is None:
        conditions = {}
    elif unet.config.addition_time_embed_dim:
        width = unet.config.addition_time_embed_dim
        pooled = unet.config.projection_class_embeddings_input_dim - 6 * width
        conditions["text_embeds"] = noise(1, pooled)

    def denoised(sample: torch.Tensor) -> torch.Tensor:
        return unet(sample, torch.tensor(500), hidden, added_cond_kwargs=conditions)[0]

    latents, image = noise(1, 4, 16, 16), noise(1, 3, 64, 64)
    decoded = partial(vae.decode, return_dict=False)
    whole = [
        (denoised, latents, 8),
        (lambda sample: decoded(sample)[0], latents, 3),
        (lambda pixels: vae.encode(pixels).latent_dist.mean, image, 16),
    ]
    for run, given, by in whole:
        assert not rolled_alike(run, given, axis, by)
        with seamless_convolutions([unet, vae], edges):
            assert rolled_alike(run, given, axis, by)


@pytest.mark.parametrize(("edges", "axis"), [(LYING, -2), (STANDING, -1)])
def test_the_other_edges_are_as_ever(vae, edges, axis):
    with seamless_convolutions([vae], edges):
        assert not rolled_alike(lambda it: vae.decode(it)[0], noise(1, 4, 16, 16), axis, 3)


def state_of(network: nn.Module) -> list[Any]:
    return [
        (
            module._compiled_call_impl,
            len(module._forward_pre_hooks),
            len(module._forward_hooks),
            getattr(module, "padding", None),
        )
        for module in network.modules()
    ]


def fail_within(network: nn.Module) -> None:
    before = state_of(network)
    with seamless_convolutions([network], BOTH):
        assert state_of(network) != before
        raise Cancelled("stopped")


def test_nothing_is_left_behind_even_by_what_fails(networks, vae):
    for network in (networks["unet"], vae):
        before = state_of(network)
        with pytest.raises(Cancelled):
            fail_within(network)
        assert state_of(network) == before


def test_compiled_code_rests_as_long(networks):
    unet = networks["unet"]
    runs = []

    def compiled(*args: Any, **kwargs: Any) -> None:
        runs.append(args)

    block = next(unet.modules())
    block._compiled_call_impl = compiled
    try:
        with seamless_convolutions([unet], NO_EDGES):
            assert block._compiled_call_impl is compiled
        with seamless_convolutions([unet], LYING):
            assert block._compiled_call_impl is None
        assert block._compiled_call_impl is compiled
    finally:
        block._compiled_call_impl = None
    assert runs == []


def test_steps_are_not_replayed_as_they_were_recorded_before(networks):
    class Recorder:
        def record(self, run: Any) -> Any:
            raise AssertionError("nothing is called")

        def let_go(self) -> None:
            pass

    graphs, unet = StepGraphs(Recorder(), torch.device("cpu")), networks["unet"]
    with seamless_convolutions([unet], LYING):
        assert graphs.bound(unet) is unet
    assert graphs.bound(unet) is not unet


def test_a_plain_picture_afterwards_is_the_same_as_before(draw):
    before = draw(**SMALL).images[0].data
    seamless = [
        draw(**SMALL, seamless_horizontally=x, seamless_vertically=y).images[0].data
        for x, y in ((True, False), (False, True), (True, True))
    ]
    assert len({before, *seamless}) == 4
    assert draw(**SMALL).images[0].data == before


def test_a_stop_in_the_middle_leaves_nothing_behind(draw, engine, work):
    before = draw(**SMALL).images[0].data
    heard = Listener()

    def check_stop() -> None:
        if any(event.__class__.__name__ == "StepFinished" for event in heard.events):
            raise Cancelled("stopped")

    heard.check_stop = check_stop
    with pytest.raises(Cancelled):
        engine.generate(changed(work, **SMALL, seamless_horizontally=True), heard)
    assert draw(**SMALL).images[0].data == before


def test_a_lora_of_a_convolution_sees_around_the_edge_too(draw, networks, tmp_path):
    """It would not fit, or leave zeros at the edge, if it did not."""
    unet: Any = networks["unet"]
    layer = unet.down_blocks[0].resnets[0].conv1
    path = tmp_path / "edge.safetensors"
    save_file(random_pair(UNET, tuple(layer.weight.shape), 2, 2.0, 1), path)
    given = noise(1, layer.weight.shape[1], 16, 16)
    active = active_lora(draw, path)
    model = active[1]
    with torch.no_grad(), on_denoiser(model, active[0]), seamless_convolutions([unet], BOTH):
        assert rolled_alike(layer, given, -1, 3)
        assert rolled_alike(layer, given, -2, 3)
    drawn = draw(**SMALL, seamless_horizontally=True, **using((path, 1.0, 1.0)))
    assert len(drawn.images) == 1


def active_lora(draw: Any, path: Any) -> tuple[list[Any], Any]:
    """The LoRA of a file at full strength, and the model of the engine that draws."""
    found: list[Any] = []
    original = denoiser_use.on_denoiser

    def note(model: Any, loras: Any) -> Any:
        found[:] = [list(loras), model]
        return original(model, loras)

    denoiser_use.on_denoiser = note
    try:
        draw(**SMALL, **using((path, 1.0, 1.0)))
    finally:
        denoiser_use.on_denoiser = original
    return found[0], found[1]


@pytest.mark.parametrize(("edges", "axis"), [(LYING, 3), (STANDING, 2)])
def test_tiles_see_what_is_beyond_the_edge(vae, edges, axis):
    # Waves that fit a tile: group norms see the same in each tile as in the whole.
    waves = torch.sin(torch.arange(80) * torch.pi / 8 + 0.3) * noise(1, 4, 1, 1)
    latents = waves.expand(1, 4, 16, 80)
    latents = latents if edges.horizontally else latents.mT
    with torch.no_grad():
        tiled, plain = (
            decode_in_tiles(vae, latents, CONFIG, NUMERICS, check_stop=lambda: None, edges=e)
            for e in (edges, NO_EDGES)
        )
        with seamless_convolutions([vae], edges):
            whole = decode(vae, latents, CONFIG, NUMERICS)
    assert tiled.shape == plain.shape == whole.shape
    errors = [float((each - whole).narrow(axis, 0, 8).abs().mean()) for each in (tiled, plain)]
    assert errors[0] < errors[1] / 4


@pytest.mark.parametrize("edges", [LYING, STANDING, BOTH])
def test_pictures_are_encoded_in_tiles_likewise(vae, edges):
    image = noise(1, 3, 128, 640) if edges.horizontally else noise(1, 3, 640, 128)
    with torch.no_grad():
        tiled = encode_in_tiles(
            vae, image, CONFIG, NUMERICS, check_stop=lambda: None, edges=edges
        )
        with seamless_convolutions([vae], edges):
            whole = encode(vae, image, NUMERICS)
    assert tiled.mean.shape == whole.mean.shape
    assert (tiled.mean - whole.mean).abs().mean() < 0.2 * whole.mean.abs().mean()


def test_a_request_with_tiles_is_drawn_and_says_so(draw):
    size = {"width": 576, "height": 64, "steps": 1}
    drawn = draw(**size, seamless_horizontally=True, vae_tiling=Toggle.ON)
    assert [one.kind for one in drawn.report.degradations] == [DegradationKind.VAE_TILED]
    assert drawn.pixels[0].shape == (64, 576, 3)


def test_previews_look_around_the_edge(draw):
    matrix, latents = noise(37, 3) / 10, noise(1, 4, 8, 8)
    how = {"image_index": 0, "step": 1, "width": 64, "height": 64, "max_edge": 64}
    plain, seamless = (
        draw_preview(latents, matrix, **how, edges=edges).jpeg for edges in (NO_EDGES, BOTH)
    )
    assert plain != seamless
    drawn = draw(**SMALL, seamless_vertically=True, previews=PreviewSettings(every_steps=1))
    assert len(drawn.previews) == 2


@pytest.mark.parametrize(("height", "width"), [(32, 32), (23, 18), (16, 16)])
def test_what_is_enlarged_has_no_edge_either(height, width):
    latents = noise(1, 4, 16, 16)
    for axis, by in ((-1, 8), (-2, 8)):
        larger = enlarge_latents(latents, height, width, BOTH)
        if larger.shape[axis] % 2:
            continue
        rolled = enlarge_latents(latents.roll(by, axis), height, width, BOTH)
        moved = by * larger.shape[axis] // 16
        torch.testing.assert_close(rolled, larger.roll(moved, axis))
    pixels = (noise(16, 16, 3) * 60 + 128).clamp(0, 255).to(torch.uint8).numpy()
    doubled = enlarge_pixels(pixels, 32, 32, BOTH)
    again = enlarge_pixels(np.roll(pixels, 8, axis=1), 32, 32, BOTH)
    assert np.array_equal(again, np.roll(doubled, 16, axis=1))


@pytest.mark.demonstration
@pytest.mark.parametrize("second", [None, SecondPass(1.5, strength=0.6)])
def test_a_picture_continues_over_its_edges(draw, second):
    """Over the edge colours change as they do inside; over that of a plain picture far more."""
    settings = {"prompt": "a pattern of red roses", "steps": 8, "second_pass": None}
    if second is not None:
        settings["second_pass"] = replace(second, steps=8, guidance=GuidanceSettings(6.0))
    found: dict[str, list[float]] = {"plain": [], "seamless": []}
    for seed in (1, 2):
        for name, on in (("plain", False), ("seamless", True)):
            drawn = draw(
                **settings, seeds=(seed,), seamless_horizontally=on, seamless_vertically=on
            )
            found[name] += [seam(drawn.pixels[0], axis) for axis in (0, 1)]
    assert np.median(found["seamless"]) < 1.6
    assert np.median(found["plain"]) > 2 * np.median(found["seamless"])
