"""Noise between two seeds: by an independent formula, and in pictures of diffusers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from domains.inference.backends.latents import Noise, between, noise_of
from domains.inference.types import (
    Scheduler,
    SchedulerSettings,
    SeedVariation,
)
from tests.domains.inference.backends.test_image_to_image import prepared, redraw  # noqa: F401
from tests.domains.inference.backends.test_oracle import same

SHAPE = (1, 4, 16, 16)
SMALL = {"width": 128, "height": 128, "steps": 3}
REFERENCE = {"width": 128, "height": 128, "num_inference_steps": 3}


def normal(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def turned(
    own: npt.NDArray[np.float64], other: npt.NDArray[np.float64], share: float
) -> npt.NDArray[np.float64]:
    """Column by column: the unit vector across the first one, in the plane of both, and lengths
    that go from the one's to the other's as the coefficients of stable-diffusion-webui do."""
    found = np.empty_like(own)
    for place in np.ndindex(own.shape[0], own.shape[1], own.shape[3]):
        channel = (place[0], place[1], slice(None), place[2])
        a, b = own[channel], other[channel]
        angle = np.arctan2(
            np.linalg.norm(np.outer(a, b) - np.outer(b, a)) / np.sqrt(2), np.dot(a, b)
        )
        weights = np.sin(np.array([1 - share, share]) * angle) / np.sin(angle)
        found[channel] = weights[0] * a + weights[1] * b
    return found


@pytest.mark.parametrize("strength", [0.05, 0.5, 0.93])
def test_each_column_turns_by_a_share_of_the_angle(strength):
    own, other = normal(1), normal(2)
    expected = turned(own.double().numpy(), other.double().numpy(), strength)
    np.testing.assert_allclose(between(own, other, strength).numpy(), expected, atol=2e-6)


def test_the_ends_are_the_noises_themselves():
    own, other = normal(1), normal(2)
    assert torch.equal(between(own, other, 0.0), own)
    assert torch.equal(between(own, other, 1.0), other)


def test_the_spread_is_kept():
    torch.manual_seed(0)
    own, other = torch.randn(1, 4, 64, 64), torch.randn(1, 4, 64, 64)
    for strength in (0.1, 0.5, 0.8):
        assert abs(float(between(own, other, strength).std()) - 1) < 0.05
        straight = (1 - strength) * own + strength * other
        assert between(own, other, strength).std() > straight.std()


def test_noise_that_is_the_same_stays_so():
    own = normal(1)
    for other in (own.clone(), -own, torch.zeros_like(own), own * (1 + 1e-9)):
        assert torch.isfinite(between(own, other, 0.3)).all()
    torch.testing.assert_close(between(own, own.clone(), 0.3), own)


def test_a_strength_of_nothing_reads_no_other_seed():
    assert noise_of(3, SeedVariation(9, 0.0)).other is None
    assert noise_of(3, None).other is None


def test_a_picture_is_that_of_diffusers_with_this_noise(draw, reference):
    variation = SeedVariation(11, 0.4)
    noise = noise_of(7, variation).draw(SHAPE)
    expected = reference(**REFERENCE, latents=noise)
    same(draw(**SMALL, variation=variation), expected)


def test_later_noise_is_that_of_the_pictures_own_seed(draw, reference):
    scheduler, variation = Scheduler.EULER_ANCESTRAL_DISCRETE, SeedVariation(11, 1.0)
    own = torch.Generator().manual_seed(7)
    torch.randn(SHAPE, generator=own)
    expected = reference(scheduler, **REFERENCE, latents=normal(11), generator=own)
    same(draw(**SMALL, scheduler=SchedulerSettings(scheduler), variation=variation), expected)


def test_strengths_of_nothing_and_all_are_the_plain_pictures_of_both_seeds(draw):
    def drawn(**settings):
        return draw(**SMALL, **settings).latents[0]

    assert torch.equal(drawn(variation=SeedVariation(11, 0.0)), drawn())
    assert torch.equal(drawn(variation=SeedVariation(11, 1.0)), drawn(seeds=(11,)))


def test_every_picture_has_the_same_other_seed(draw):
    variation = SeedVariation(11, 0.4)
    together = draw(**SMALL, seeds=(7, 8), variation=variation)
    for index, seed in enumerate((7, 8)):
        alone = draw(**SMALL, seeds=(seed,), variation=variation)
        assert alone.images[0].data == together.images[index].data


def test_image_to_image_varies_all_that_it_draws(redraw):  # noqa: F811
    other = redraw(0.5, steps=4, seeds=(11,)).latents[0]
    assert torch.equal(redraw(0.5, steps=4, variation=SeedVariation(11, 1.0)).latents[0], other)
    plain, varied = (
        redraw(0.5, steps=4, variation=variation).latents[0]
        for variation in (None, SeedVariation(11, 0.1))
    )
    assert not torch.equal(plain, varied)
    assert (plain - varied).norm() < (plain - other).norm()


def test_numbers_are_drawn_from_both_seeds_in_turn():
    """So in image-to-image: a VAE's answer is sampled first, then noise is added."""
    noise = Noise(torch.Generator().manual_seed(7), torch.Generator().manual_seed(11), 0.3)
    generators = [torch.Generator().manual_seed(seed) for seed in (7, 11)]
    for _ in range(2):
        pair = [torch.randn(SHAPE, generator=one) for one in generators]
        assert torch.equal(noise.draw(SHAPE), between(*pair, 0.3))
