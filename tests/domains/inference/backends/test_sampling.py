"""Samplers' options, noise levels of one's own and guidance in an interval: the engine's
pictures are those of diffusers' pipelines with the same options, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from msgspec.structs import replace
from transformers import CLIPTextModel

from domains.inference.types import (
    AncestralOptions,
    ChurnOptions,
    GuidanceSettings,
    ImageToImage,
    LinearMultistepOptions,
    Scheduler,
    SchedulerSettings,
    SigmaSpacing,
    SolverAlgorithm,
    SolverOptions,
    TimestepSpacing,
)
from tests.domains.inference.backends.conftest import own_share
from tests.domains.inference.backends.test_image_to_image import painting
from tests.domains.inference.backends.test_image_to_image import prepared as prepared
from tests.domains.inference.backends.test_oracle import SWITCHES, same
from tests.domains.inference.backends.test_sd1 import (
    PROMPT,
    SIZE,
    drawn_by,
    loaded,
    tiny_pipeline,
)
from tests.libraries import OLD_DIFFUSERS

EULER = Scheduler.EULER_DISCRETE
SIGMAS = (14.0, 5.0, 2.0, 0.6, 0.2)
STEPS = 5
# Diffusers would rather be without the first DPM-Solver; it has it still.
pytestmark = pytest.mark.filterwarnings("ignore:.*algorithm_type.*:FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-sd1"
    tiny_pipeline().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pipelines(folder: Path) -> dict[str, Any]:
    own = loaded(folder)
    again: Any = StableDiffusionImg2ImgPipeline(**own.components, requires_safety_checker=False)
    again.set_progress_bar_config(disable=True)
    return {"text": own, "image": again}


@pytest.fixture
def expect(pipelines: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Pixels and final latents of a reference pipeline; `stepped` are arguments of `step` that
    it has no way to pass on."""
    own = pipelines["text"].scheduler
    if not OLD_DIFFUSERS:  # with it came a transformers that has one
        monkeypatch.setattr(CLIPTextModel, "text_model", property(lambda it: it), raising=False)

    def call(
        scheduler: Scheduler = EULER,
        options: dict[str, Any] | None = None,
        stepped: dict[str, Any] | None = None,
        mode: str = "text",
        **arguments: Any,
    ) -> Any:
        cls = getattr(diffusers, scheduler.value)
        made = cls.from_config(own.config, **(options or {}))
        made.step = partial(made.step, **(stepped or {}))
        pipelines[mode].scheduler = made
        usual: dict[str, Any] = {"num_inference_steps": STEPS, **own_share(scheduler)}
        if mode == "image":
            usual |= {"image": painting(SIZE, SIZE), "strength": 0.5}
            usual |= {"width": None, "height": None}
        if "sigmas" in arguments:
            del usual["num_inference_steps"]
        usual |= arguments
        if mode == "image":
            del usual["width"], usual["height"]
            return redrawn_by(pipelines[mode], usual)
        return drawn_by(pipelines[mode], **usual)

    yield call
    for each in pipelines.values():
        each.scheduler = own


def redrawn_by(pipeline: Any, arguments: dict[str, Any]) -> Any:
    """As `drawn_by`, of a pipeline that takes no size."""

    def without_size(**given: Any) -> Any:
        return pipeline(**{k: v for k, v in given.items() if k not in ("width", "height")})

    return drawn_by(without_size, **arguments)


@pytest.fixture
def drawn(draw: Any, folder: Path, prepared: Any) -> Callable[..., Any]:
    def call(mode: str = "text", **changes: Any) -> Any:
        usual = {"model_id": folder.name, "model_path": folder, "prompt": PROMPT}
        usual |= {"width": SIZE, "height": SIZE, "steps": STEPS}
        if mode == "image":
            usual |= {"picture": prepared(painting(SIZE, SIZE))}
            usual |= {"image_to_image": ImageToImage(0.5)}
        return draw(**usual | changes)

    return call


def solver(
    order: int | None = None, algorithm: str = "model", lower: bool | None = None
) -> Any:
    return {"solver": SolverOptions(order, SolverAlgorithm(algorithm), lower)}


MULTI, SINGLE = Scheduler.DPM_SOLVER_MULTISTEP, Scheduler.DPM_SOLVER_SINGLESTEP
SDE = "sde-dpmsolver++"
# What is asked for, the options of the class, and those of its steps.
ONE_OF_EACH: dict[str, tuple[Scheduler, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "trailing": (
        EULER,
        {"timestep_spacing": TimestepSpacing.TRAILING},
        {"timestep_spacing": "trailing"},
        {},
    ),
    "linspace": (
        Scheduler.DDIM,
        {"timestep_spacing": TimestepSpacing.LINSPACE},
        {"timestep_spacing": "linspace"},
        {},
    ),
    "zero snr": (
        EULER,
        {"zero_terminal_snr": True, "timestep_spacing": TimestepSpacing.TRAILING},
        {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        {},
    ),
    "order": (MULTI, solver(3), {"solver_order": 3}, {}),
    "sde": (MULTI, solver(None, SDE), {"algorithm_type": SDE}, {}),
    "no zero": (
        MULTI,
        solver(2, "dpmsolver", False),
        {
            "solver_order": 2,
            "algorithm_type": "dpmsolver",
            "lower_order_final": False,
            "final_sigmas_type": "sigma_min",
        },
        {},
    ),
    "single sde": (
        SINGLE,
        solver(2, SDE, True),
        {"solver_order": 2, "algorithm_type": SDE, "lower_order_final": True},
        {},
    ),
    "unipc": (Scheduler.UNIPC_MULTISTEP, solver(3), {"solver_order": 3}, {}),
    "deis": (Scheduler.DEIS_MULTISTEP, solver(1), {"solver_order": 1}, {}),
    "churn": (
        EULER,
        {"churn": ChurnOptions(3.0, 0.05, 20.0, 1.1)},
        {},
        {"s_churn": 3.0, "s_tmin": 0.05, "s_tmax": 20.0, "s_noise": 1.1},
    ),
    "lms": (
        Scheduler.LMS_DISCRETE,
        {"linear_multistep": LinearMultistepOptions(2)},
        {},
        {"order": 2},
    ),
    "tcd": (Scheduler.TCD, {"ancestral": AncestralOptions(0.8)}, {}, {"eta": 0.8}),
}


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_each_option(drawn: Any, expect: Any, case: str) -> None:
    scheduler, asked, options, stepped = ONE_OF_EACH[case]
    if scheduler is Scheduler.TCD:
        expected = expect(scheduler, options, eta=stepped["eta"])
    else:
        expected = expect(scheduler, options, stepped)
    ours = drawn(scheduler=SchedulerSettings(scheduler, **asked))
    same(ours, expected)
    plain = drawn(scheduler=SchedulerSettings(scheduler))
    assert not torch.equal(plain.latents[0], ours.latents[0])


@pytest.mark.parametrize("mode", ["text", "image"])
def test_noise_levels_of_ones_own(drawn: Any, expect: Any, mode: str) -> None:
    asked = SchedulerSettings(EULER, sigmas=SIGMAS)
    same(drawn(mode, scheduler=asked), expect(mode=mode, sigmas=[*SIGMAS, 0.0]))


@pytest.mark.demonstration
@pytest.mark.parametrize("mode", ["text", "image"])
@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_each_option_with_each_spacing_and_mode(
    drawn: Any, expect: Any, case: str, mode: str
) -> None:
    scheduler, asked, options, stepped = ONE_OF_EACH[case]
    eta = {"eta": stepped["eta"]} if scheduler is Scheduler.TCD else {}
    stepped = {} if eta else stepped
    for spacing in SigmaSpacing:
        if spacing in scheduler.facts.spacings:
            ours = SchedulerSettings(scheduler, spacing, **asked)
            theirs = expect(scheduler, options | SWITCHES[spacing], stepped, mode, **eta)
            same(drawn(mode, scheduler=ours), theirs)


@pytest.mark.demonstration
@pytest.mark.parametrize("mode", ["text", "image"])
@pytest.mark.parametrize("scheduler", Scheduler)
def test_every_scheduler_in_every_mode_with_every_spacing(
    drawn: Any, expect: Any, scheduler: Scheduler, mode: str
) -> None:
    for spacing in SigmaSpacing:
        for timesteps in TimestepSpacing:
            facts = scheduler.facts
            if spacing not in facts.spacings or timesteps not in facts.timestep_spacings:
                continue
            options: dict[str, Any] = dict(SWITCHES[spacing])
            if timesteps is not TimestepSpacing.MODEL:
                options["timestep_spacing"] = timesteps.value
            ours = SchedulerSettings(scheduler, spacing, timesteps)
            same(drawn(mode, scheduler=ours), expect(scheduler, options, mode=mode))


@pytest.mark.parametrize("mode", ["text", "image"])
@pytest.mark.parametrize("scheduler", [Scheduler.LCM, Scheduler.TCD])
def test_schedulers_of_distilled_models(
    drawn: Any, expect: Any, scheduler: Scheduler, mode: str
) -> None:
    same(drawn(mode, scheduler=SchedulerSettings(scheduler)), expect(scheduler, mode=mode))


def test_each_image_is_drawn_as_if_alone_where_noise_is_fresh(drawn: Any) -> None:
    for settings in (
        SchedulerSettings(MULTI, **solver(2, SDE)),
        SchedulerSettings(EULER, churn=ChurnOptions(3.0)),
        SchedulerSettings(Scheduler.TCD),
        SchedulerSettings(Scheduler.EULER_ANCESTRAL_DISCRETE, ancestral=AncestralOptions(0.5)),
    ):
        both = drawn(seeds=(7, 8), scheduler=settings)
        alone = drawn(seeds=(8,), scheduler=settings)
        assert torch.equal(both.latents[1], alone.latents[0])


def steered(
    pipeline: Any, guidance: GuidanceSettings, steps: int, calls: int
) -> dict[str, Any]:
    """Arguments for a pipeline of diffusers whose guidance goes on and off between its steps:
    what it looks at before every call is replaced after the call before."""
    texts = pipeline.encode_prompt(PROMPT, "cpu", 1, True, negative_prompt="")[:2]
    prompt, both = texts[0], torch.cat([texts[1], texts[0]])

    def turn(pipe: Any, index: int, _timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
        following = min((index + 1) // calls, steps - 1)
        on = guidance.covers(following, steps)
        pipe._guidance_scale = guidance.scale if on else 1.0
        state["prompt_embeds"] = both if on else prompt
        seen[:] = [state["latents"].clone()]
        return state

    seen: list[torch.Tensor] = []
    on = guidance.covers(0, steps)
    return {
        "prompt": PROMPT,
        "num_inference_steps": steps,
        "guidance_scale": guidance.scale if on else 1.0,
        "guidance_rescale": guidance.rescale,
        "generator": torch.Generator("cpu").manual_seed(7),
        "callback_on_step_end": turn,
        "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"],
        "width": SIZE,
        "height": SIZE,
    }


@pytest.mark.parametrize(
    ("scheduler", "guidance"),
    [
        (EULER, GuidanceSettings(6.0, start=0.25, end=0.75)),
        (EULER, GuidanceSettings(6.0, 0.7, end=0.5)),
        (Scheduler.HEUN_DISCRETE, GuidanceSettings(6.0, start=0.5)),
        (Scheduler.DPM_SOLVER_MULTISTEP, GuidanceSettings(6.0, start=0.25)),
    ],
)
def test_guidance_in_an_interval(
    drawn: Any,
    pipelines: dict[str, Any],
    expect: Any,
    scheduler: Scheduler,
    guidance: GuidanceSettings,
) -> None:
    pipeline = pipelines["text"]
    expect(scheduler, num_inference_steps=1)  # chooses the reference's scheduler
    arguments = steered(pipeline, guidance, STEPS, scheduler.facts.calls_per_step)
    expected = torch.from_numpy(pipeline(**arguments, output_type="latent").images.numpy())
    ours = drawn(scheduler=SchedulerSettings(scheduler), guidance=guidance)
    assert torch.equal(ours.latents[0], expected)
    everywhere = replace(guidance, start=0.0, end=1.0)
    whole = drawn(scheduler=SchedulerSettings(scheduler), guidance=everywhere)
    assert not torch.equal(whole.latents[0], expected)


def test_the_prompt_alone_is_computed_outside_the_interval(
    drawn: Any, engine: Any, folder: Path
) -> None:
    drawn()
    batches: list[int] = []
    unet = engine._model.networks["unet"]
    watching = unet.register_forward_pre_hook(lambda _net, given: batches.append(len(given[0])))
    try:
        drawn("image", steps=8, guidance=GuidanceSettings(6.0, start=0.25, end=0.75))
        drawn(guidance=GuidanceSettings(6.0, start=0.6, end=0.6))
    finally:
        watching.remove()
    assert batches == [1, 2, 2, 1, *[1] * STEPS]
