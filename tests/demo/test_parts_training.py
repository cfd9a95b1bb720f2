"""The shared mathematics: schedule, losses, loop, text, latents."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline

from demo.train.parts import diffusion, losses
from demo.train.parts.base import BASE, BaseModel, load_base
from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import load_emoji
from demo.train.parts.latent_pool import LatentPool
from demo.train.parts.latents import decode, encode, fold_latent_scale
from demo.train.parts.loop import Average, Exact, Plan, learning_rate, train
from demo.train.parts.text import SdxlText, time_ids


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base(device="cpu")


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return Compositor(load_emoji(limit=24), device="cpu", seed=1).draw(2).pixels


class TestSchedule:
    def test_it_is_that_of_the_pipelines(self) -> None:
        euler = EulerDiscreteScheduler.from_pretrained(BASE, subfolder="scheduler")
        ours = diffusion.NoiseSchedule("cpu").alphas_cumprod

        torch.testing.assert_close(ours, euler.alphas_cumprod)

    def test_adding_noise_is_ddpm_and_clean_undoes_it(self) -> None:
        ddpm = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        schedule = diffusion.NoiseSchedule("cpu")
        latents, noise = torch.randn(2, 3, 4, 8, 8).unbind(0)
        times = torch.tensor([0, 500, 900])

        noisy = schedule.add(latents, noise, times)

        torch.testing.assert_close(noisy, ddpm.add_noise(latents, noise, times))
        torch.testing.assert_close(
            schedule.clean(noisy, noise, times), latents, atol=1e-4, rtol=0
        )

    def test_min_snr_caps_the_weight_of_a_clean_prediction_at_gamma(self) -> None:
        snr = torch.tensor([0.1, 5.0, 50.0])

        weight = diffusion.min_snr_weight(snr, 5.0)

        torch.testing.assert_close(weight * snr, torch.tensor([0.1, 5.0, 5.0]))

    def test_offset_noise_shifts_whole_channels(self) -> None:
        like = torch.zeros(64, 4, 32, 32)
        generator = torch.Generator().manual_seed(0)

        plain = diffusion.offset_noise(like, 0.0, generator)
        offset = diffusion.offset_noise(like, 0.5, generator)

        assert plain.mean(dim=(2, 3)).std() < 0.05
        assert offset.mean(dim=(2, 3)).std().item() == pytest.approx(0.5, rel=0.15)


class TestEpsilonLoss:
    def test_it_is_zero_for_the_true_noise_within_the_given_timesteps(self) -> None:
        schedule = diffusion.NoiseSchedule("cpu")
        latents = torch.randn(16, 4, 8, 8)
        times_seen = []

        def truth(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            times_seen.append(times)
            kept = schedule.alphas_cumprod[times][:, None, None, None]
            return (noisy - kept.sqrt() * latents) / (1 - kept).sqrt()

        generator = torch.Generator().manual_seed(0)
        loss = diffusion.epsilon_loss(
            truth, latents, schedule=schedule, generator=generator, low=100, high=200
        )

        assert loss < 1e-6
        assert times_seen[0].min() >= 100
        assert times_seen[0].max() < 200

    def test_predicting_nothing_costs_one_unweighted_and_less_weighted(self) -> None:
        schedule = diffusion.NoiseSchedule("cpu")
        latents = torch.zeros(64, 4, 16, 16)

        def nothing(noisy: torch.Tensor, _times: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(noisy)

        plain = diffusion.epsilon_error(nothing, latents, schedule=schedule)
        again = diffusion.epsilon_error(nothing, latents, schedule=schedule)
        weighted = diffusion.epsilon_loss(
            nothing,
            latents,
            schedule=schedule,
            generator=torch.Generator().manual_seed(0),
            high=100,
            offset=0.0,
        )

        assert plain == pytest.approx(1.0, rel=0.05)
        assert plain == again
        assert weighted < 0.5

    def test_a_teacher_sets_the_target_and_learns_nothing(self) -> None:
        schedule = diffusion.NoiseSchedule("cpu")
        latents = torch.randn(4, 4, 8, 8)
        own, taught = (torch.full((), value, requires_grad=True) for value in (0.3, 0.5))

        def alike(value: torch.Tensor) -> diffusion.Predict:
            return lambda noisy, _times: value * noisy

        loss, none = (
            diffusion.epsilon_loss(
                alike(pupil),
                latents,
                schedule=schedule,
                generator=torch.Generator().manual_seed(0),
                teacher=alike(taught),
            )
            for pupil in (own, taught.detach())
        )
        loss.backward()

        assert none == 0
        assert loss > 0
        assert own.grad < 0
        assert taught.grad is None


class TestText:
    def test_it_is_what_the_pipeline_encodes(self, base: BaseModel) -> None:
        pipeline = StableDiffusionXLPipeline(
            vae=base.vae,
            text_encoder=base.text_encoder,
            text_encoder_2=base.text_encoder_2,
            tokenizer=base.tokenizer,
            tokenizer_2=base.tokenizer,
            unet=base.unet,
            scheduler=EulerDiscreteScheduler.from_pretrained(BASE, subfolder="scheduler"),
        )
        prompts = ["a robot on a teal background", "pizza " * 90]
        states, _, pooled, _ = pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False
        )

        ours = SdxlText(base).encode(prompts)

        torch.testing.assert_close(ours.states, states)
        torch.testing.assert_close(ours.pooled, pooled)
        expected = pipeline._get_add_time_ids(
            (256, 256), (0, 0), (256, 256), torch.float32, 192
        )
        torch.testing.assert_close(time_ids(1, "cpu"), expected)

    def test_dropping_gives_the_empty_prompt_or_zeros_and_keeps_the_rest(
        self, base: BaseModel
    ) -> None:
        text = SdxlText(base)
        given, empty = text.encode(["a robot"]), text.encode([""])
        ids = text.tokens(["a robot"]).repeat(100, 1)

        dropped = text.encode_dropped(ids, 0.3, 0.3, torch.Generator().manual_seed(0))

        zero = (dropped.states == 0).flatten(1).all(1) & (dropped.pooled == 0).all(1)
        is_empty, kept = (
            torch.isclose(dropped.states, one.states, atol=1e-4).flatten(1).all(1)
            & torch.isclose(dropped.pooled, one.pooled, atol=1e-4).all(1)
            for one in (empty, given)
        )
        assert (zero.int() + is_empty.int() + kept.int() == 1).all()
        assert all(15 < int(part.sum()) < 45 for part in (zero, is_empty))


class TestLatents:
    def test_the_base_vae_brings_pictures_back(
        self, base: BaseModel, pixels: torch.Tensor
    ) -> None:
        latents = encode(base.vae, pixels)

        assert latents.shape == (2, 4, 32, 32)
        assert losses.psnr(decode(base.vae, latents), pixels).min() > 24

    def test_a_sample_lies_near_the_mode_and_differs(
        self, base: BaseModel, pixels: torch.Tensor
    ) -> None:
        mode = encode(base.vae, pixels)
        sample = encode(base.vae, pixels, torch.Generator().manual_seed(0))

        assert not torch.equal(mode, sample)
        assert (mode - sample).abs().mean() < mode.abs().mean()

    def test_folding_makes_latents_standard_and_leaves_pictures_alone(
        self, pixels: torch.Tensor
    ) -> None:
        vae = load_base(device="cpu").vae
        with torch.no_grad():
            vae.quant_conv.bias[:4] += torch.tensor([3.0, -2.0, 0.5, 0.0])
        before = encode(vae, pixels) / vae.config.scaling_factor
        spread = vae.encode(pixels).latent_dist.std
        shown = decode(vae, encode(vae, pixels))
        mean, deviation = before.mean(dim=(0, 2, 3)), before.std(dim=(0, 2, 3))

        fold_latent_scale(vae, mean, deviation)

        after = encode(vae, pixels)
        torch.testing.assert_close(after.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
        torch.testing.assert_close(after.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
        torch.testing.assert_close(decode(vae, after), shown, atol=1e-3, rtol=0)
        ratio = vae.encode(pixels).latent_dist.std / spread
        expected = 1 / (deviation * vae.config.scaling_factor)
        torch.testing.assert_close(ratio.mean(dim=(0, 2, 3)), expected, rtol=1e-3, atol=0)


class TestPool:
    def test_it_grows_to_its_capacity_then_forgets_the_oldest(self, base: BaseModel) -> None:
        scores = iter(range(1, 100))

        def numbered(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return pixels, torch.tensor([float(next(scores)) for _ in pixels])

        pool = LatentPool(
            Compositor(load_emoji(limit=24), device="cpu"),
            base.vae,
            base.tokenizer,
            capacity=4,
            start=2,
            generator=torch.Generator().manual_seed(0),
            alter=numbered,
        )
        assert set(pool.take(64).score.tolist()) == {1.0, 2.0}
        pool.renew(1)
        assert set(pool.take(64).score.tolist()) == {1.0, 2.0, 3.0}
        pool.renew(2)

        sample = pool.take(64)
        assert set(sample.score.tolist()) == {2.0, 3.0, 4.0, 5.0}
        assert len(pool) == 4
        assert sample.latents.shape == (64, 4, 32, 32)
        assert sample.ids.shape == (64, 77)


class TestLosses:
    def test_gradients_see_a_blurred_edge_that_has_the_same_mean(self) -> None:
        sharp = torch.zeros(1, 3, 16, 16)
        sharp[..., 8:] = 1
        blurred = sharp.clone()
        blurred[..., 7], blurred[..., 8] = 0.3, 0.7

        assert losses.gradient_loss(sharp, sharp) == 0
        assert losses.gradient_loss(sharp + 0.5, sharp) < 1e-6
        assert losses.gradient_loss(blurred, sharp) > 0.01

    def test_psnr_is_per_picture_and_in_decibels_of_the_whole_range(self) -> None:
        truth = torch.zeros(2, 3, 8, 8)
        result = truth + torch.tensor([0.2, 0.02])[:, None, None, None]

        assert losses.psnr(result, truth).tolist() == pytest.approx([20.0, 40.0], abs=0.01)

    def test_kl_is_zero_only_for_a_standard_normal(self) -> None:
        nought = torch.zeros(2, 4)

        assert losses.kl_loss(nought, nought) == 0
        assert losses.kl_loss(nought + 1, nought) == pytest.approx(0.5)
        assert losses.kl_loss(nought, nought - 1) > 0


class TestLoop:
    @pytest.mark.parametrize("ema", [None, 0.9])
    def test_it_minimises(self, ema: float | None) -> None:
        weight = torch.nn.Parameter(torch.zeros(1))
        plan = Plan(60, batch=1, learning_rate=0.2, warmup=1, ema=ema, weight_decay=0)

        run = train(
            [weight], lambda _: (weight - 3).square().sum(), plan, device="cpu", name="t"
        )

        assert weight.item() == pytest.approx(3.0, abs=0.2)
        assert run.steps == len(run.losses) == 60
        assert run.final_loss < run.losses[0]

    def test_the_average_follows_slowly_and_replaces_the_weights_at_the_end(self) -> None:
        weight = torch.nn.Parameter(torch.zeros(1))
        average = Average([weight], 0.9)
        weight.data.fill_(1.0)

        average.update(10_000)
        assert weight.item() == 1.0
        average.swap_in()
        assert weight.item() == pytest.approx(0.1)

    def test_early_weights_are_soon_forgotten(self) -> None:
        weight = torch.nn.Parameter(torch.zeros(1))
        average = Average([weight], 0.9999)
        weight.data.fill_(1.0)

        for step in range(20):
            average.update(step)
        average.swap_in()

        assert weight.item() > 0.99

    def test_the_rate_warms_up_and_ends_at_zero_whichever_limit_comes_first(self) -> None:
        plan = Plan(steps=1000, batch=1, learning_rate=1.0, warmup=10)

        assert learning_rate(plan, 0, 0.0) == pytest.approx(0.1)
        assert learning_rate(plan, 500, 0.5) == pytest.approx(0.5)
        assert learning_rate(plan, 500, 0.99) < 0.001

    def test_time_ends_a_run_that_steps_would_not(self) -> None:
        now = iter(range(0, 10_000, 6))
        weight = torch.nn.Parameter(torch.zeros(1))
        plan = Plan(steps=10**6, batch=1, learning_rate=1e-3, minutes=1)

        run = train(
            [weight],
            lambda _: weight.sum(),
            plan,
            device="cpu",
            name="t",
            clock=lambda: float(next(now)),
        )

        assert 1 < run.steps < 12

    def test_a_loss_that_is_not_finite_ends_the_run(self) -> None:
        weight = torch.nn.Parameter(torch.zeros(1))
        plan = Plan(steps=2, batch=1, learning_rate=1.0)

        with pytest.raises(FloatingPointError, match="name: the loss is no longer finite"):
            train([weight], lambda _: (weight / 0).sum(), plan, device="cpu", name="name")

    def test_there_must_be_something_to_train(self) -> None:
        frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
        plan = Plan(steps=2, batch=1, learning_rate=1.0)

        with pytest.raises(ValueError, match="parameters: none asks for a gradient"):
            train([frozen], lambda _: frozen.sum(), plan, device="cpu", name="t")


class TestExact:
    """Networks whose parameters are narrower than what an optimizer needs."""

    def test_steps_too_small_for_a_parameter_add_up(self) -> None:
        network = torch.nn.Linear(4, 1, bias=False).bfloat16()
        network.weight.data.fill_(1.0)  # whose next neighbour is 0.996
        inputs = torch.ones(2, 4, dtype=torch.bfloat16)
        seen: list[torch.dtype] = []

        def loss_of_step(_step: int) -> torch.Tensor:
            seen.append(network.weight.dtype)
            return network(inputs).float().mean()

        train(
            network.parameters(),
            loss_of_step,
            Plan(steps=64, batch=2, learning_rate=2e-4, warmup=1, weight_decay=0.0),
            device="cpu",
            name="narrow",
        )

        assert set(seen) == {torch.bfloat16}
        assert network.weight.dtype == torch.float32
        # Half a cosine from 2e-4 to 0 over 64 steps.
        torch.testing.assert_close(
            network.weight.data, torch.full((1, 4), 1 - 0.0065), atol=3e-4, rtol=0
        )

    def test_what_is_exact_already_and_what_has_no_gradient_stay_as_they_are(self) -> None:
        own = torch.nn.Parameter(torch.ones(2))
        unused = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
        exact = Exact([own, unused])
        own.grad = torch.ones(2)

        exact.take_gradients()
        exact.show()
        exact.give_back()

        assert exact.parameters[0] is own
        assert own.grad is not None
        assert exact.parameters[1].grad is None
        assert unused.dtype == torch.float32
