"""What is told of time and memory before a generation is begun."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from deviceops.v1 import batch_pb2
from domains.device.types import Device, DeviceKind, LoadedComponent
from domains.errors import DomainError, Reason, ResourceExhausted
from domains.inference import convert
from domains.inference.convert.batch_items import GenerationTemplate
from domains.inference.core.memory_needs import ENCODE, phase_bytes
from domains.inference.types import (
    ControlNetGuidance,
    GenerationSettings,
    GuidanceSettings,
    ImageToImage,
    PrecisionMode,
    SecondPass,
    Toggle,
)
from domains.memory.types import HeldComponent
from domains.model.core.estimates import weights_by_header
from domains.model.core.room import CONTROLLED_PLAIN, SPARE_BYTES, STEP_PLAIN, union_factor
from domains.model.types import Component, ModelType
from domains.processing.batches.types import ItemWork, Settled
from domains.session.core.speeds import Effort
from domains.session.types import Phase
from domains.values import ByteFigure, ControlNetType, DegradationKind, FigureQuality
from tests.domains.inference.conftest import MODEL, Bench, request

NETWORKS = (
    Component("text_encoder", "CLIPTextModel", 1_000),
    Component("text_encoder_2", "CLIPTextModelWithProjection", 1_000),
    Component("unet", "UNet2DConditionModel", 100_000, widths=(32, 64)),
    Component("vae", "AutoencoderKL", 10_000, widths=(16, 48, 64)),
)
SHAPED = replace(MODEL, components=NETWORKS)
WEIGHTS = 112_000 * 4
SETTINGS = GenerationSettings(prompt="a cat", width=512, height=256, steps=2, seed=1)
UNET = STEP_PLAIN * 32 * 64 * 32 * 2 * 4
VAE = 5 * 48 * 512 * 256 * 4


async def draw(bench: Bench, settings: GenerationSettings = SETTINGS) -> None:
    async with asyncio.timeout(30):
        async for _ in bench.run(request(settings)):
            pass


def resolved(**changes: object) -> GenerationSettings:
    return structs.replace(SETTINGS, seeds=(1,), seed=None, **changes)  # type: ignore[arg-type]


async def test_each_phase_is_told_with_the_weights(bench: Bench) -> None:
    bench.models.model = SHAPED

    verdict = await bench.generations.validate(request(SETTINGS))
    message = convert.verdict_to_proto(verdict)

    told = {phase: figure.value for phase, figure in verdict.forecast.phases}  # type: ignore[union-attr]
    assert told == {
        Phase.ENCODING_TEXT: WEIGHTS,
        Phase.DENOISING: WEIGHTS + UNET,
        Phase.DECODING: WEIGHTS + VAE,
    }
    assert message.memory.value_bytes == WEIGHTS + max(UNET, VAE)
    assert len(message.phase_memory) == 3
    assert message.fits
    assert message.available_memory.value_bytes == 4 << 30
    assert not message.HasField("estimated_duration")  # nothing was measured
    assert message.valid


async def test_nothing_is_told_where_headers_do_not_say(bench: Bench) -> None:
    message = convert.verdict_to_proto(await bench.generations.validate(request()))

    assert message.valid
    assert not message.memory.value_bytes
    assert len(message.phase_memory) == 0
    assert not message.HasField("fits")


async def test_time_is_told_from_what_was_measured(bench: Bench) -> None:
    await draw(bench)  # one second of two steps
    known = await bench.generations.validate(request(SETTINGS))
    loading = Effort(bench.sessions.all()[0].model_id)
    bench.sessions.speeds.learn("cpu:0", loading, {Phase.LOADING_MODEL: 5.0})
    twice = await bench.generations.validate(request(structs.replace(SETTINGS, steps=4)))

    assert known.forecast is not None
    assert known.forecast.seconds is None  # the model is not there, and loads were not timed
    assert twice.forecast is not None
    assert twice.forecast.seconds is not None
    assert twice.forecast.seconds > 5.0
    message = convert.verdict_to_proto(twice)
    assert message.estimated_duration.ToMicroseconds() > 5_000_000


def lying_there(size: int) -> HeldComponent:
    part = LoadedComponent(
        model_id="emoji",
        component="unet",
        size=ByteFigure.measured(size, "test"),
        data_type=None,
        last_use_time=datetime.now(UTC),
        load_time=datetime.now(UTC),
    )
    return HeldComponent("cpu:0", part)


async def test_a_model_that_lies_there_need_not_be_loaded(bench: Bench) -> None:
    """Nobody timed a load, and the time is told all the same."""
    await draw(bench)
    before = await bench.generations.validate(request(SETTINGS))
    bench.machine.parts = (lying_there(1_000),)

    there = await bench.generations.validate(request(SETTINGS))

    assert there.forecast is not None
    assert there.forecast.seconds is not None
    assert Phase.LOADING_MODEL in before.phases
    assert set(before.phases) - set(there.phases) == {Phase.LOADING_MODEL}


async def test_a_companion_that_is_not_there_is_loaded_beside_the_model(bench: Bench) -> None:
    bench.machine.parts = (lying_there(1_000),)
    vae = structs.replace(SETTINGS, vae_model_id="vae")
    bench.models.others["vae"] = replace(MODEL, model_id="vae", type=ModelType.VAE)

    verdict = await bench.generations.validate(request(vae))

    assert verdict.failure is None
    assert Phase.LOADING_MODEL in verdict.phases


async def test_a_measured_peak_takes_the_place_of_the_estimate(bench: Bench) -> None:
    bench.models.model = SHAPED
    for peak in (3_000_000, 2_000_000, 9_000_000):
        bench.pool.peak = peak
        await draw(bench)

    same = await bench.generations.validate(request(structs.replace(SETTINGS, prompt="dog")))
    other = await bench.generations.validate(request(structs.replace(SETTINGS, width=256)))

    assert same.forecast is not None
    assert other.forecast is not None
    memory = same.forecast.memory
    assert (memory.value, memory.quality) == (2_000_000, FigureQuality.ESTIMATED)
    assert "earlier generations" in memory.source
    assert other.forecast.memory.value == WEIGHTS + max(UNET, VAE) // 2


async def test_the_peak_of_one_that_failed_is_not_learned(bench: Bench) -> None:
    bench.models.model = SHAPED
    bench.pool.peak = 2_000_000
    bench.pool.failure = ResourceExhausted("full", reason=Reason.HOST_OUT_OF_MEMORY)
    with pytest.raises(DomainError):
        await draw(bench)

    verdict = await bench.generations.validate(request(SETTINGS))

    assert verdict.forecast is not None
    assert verdict.forecast.memory.value == WEIGHTS + max(UNET, VAE)


async def test_what_cannot_fit_is_refused_and_what_may_not_is_told(bench: Bench) -> None:
    bench.models.model = SHAPED
    bench.machine.free = 1 << 20
    tight = await bench.generations.validate(request(SETTINGS))
    bench.machine.total = WEIGHTS - 1
    hopeless = await bench.generations.validate(request(SETTINGS))

    assert tight.failure is None
    assert tight.forecast is not None
    assert tight.forecast.fits is False
    assert hopeless.failure is not None
    assert hopeless.failure.reason is Reason.HOST_OUT_OF_MEMORY
    assert not convert.verdict_to_proto(hopeless).valid


async def test_tiles_are_foretold_where_only_decoding_does_not_fit(bench: Bench) -> None:
    bench.models.model = SHAPED
    bench.machine.free = WEIGHTS + UNET + 1
    assert VAE > UNET
    exact = structs.replace(SETTINGS, precision=PrecisionMode.EXACT)

    tiled = await bench.generations.validate(request(SETTINGS))
    whole = await bench.generations.validate(request(exact))

    assert [each.kind for each in tiled.degradations] == [DegradationKind.VAE_TILED]
    assert whole.degradations == ()


async def test_what_lies_there_already_counts_as_to_be_had(bench: Bench) -> None:
    bench.models.model = SHAPED
    bench.machine.parts = (lying_there(400_000),)

    verdict = await bench.generations.validate(request(SETTINGS))

    assert verdict.forecast is not None
    assert verdict.forecast.available.value == (4 << 30) + 400_000
    assert verdict.forecast.memory.value == 400_000 + max(UNET, VAE)  # as they lie there


def test_what_control_nets_give_to_the_unet_takes_memory_too() -> None:
    """Their pictures too; how many of them give does not matter, as it is added up."""

    def denoising(*nets: ControlNetGuidance, **changes: object) -> int:
        settings = resolved(control_nets=nets, **changes)
        return phase_bytes(SHAPED, SHAPED, settings, number=4)[Phase.DENOISING]

    net, picture = ControlNetGuidance("canny"), 3 * 512 * 256 * 4
    alone = denoising(guidance=GuidanceSettings(1.0))
    assert denoising() == UNET
    assert denoising(net) == UNET * CONTROLLED_PLAIN // STEP_PLAIN + picture
    assert denoising(net, net) - denoising(net) == picture
    assert denoising(net, guidance=GuidanceSettings(1.0)) == (
        alone * CONTROLLED_PLAIN // STEP_PLAIN + picture
    )


def test_a_union_takes_more_with_every_picture_of_a_call() -> None:
    def denoising(*nets: ControlNetGuidance) -> int:
        settings = resolved(control_nets=nets)
        needs = phase_bytes(SHAPED, SHAPED, settings, number=4)[Phase.DENOISING]
        return needs - len(nets) * 3 * 512 * 256 * 4

    pose = ControlNetGuidance("union", control_type=ControlNetType.POSE)
    edge = ControlNetGuidance("union", control_type=ControlNetType.EDGE)
    elsewhere = structs.replace(edge, guess_mode=True)
    controlled = UNET * CONTROLLED_PLAIN // STEP_PLAIN
    assert denoising(pose) == controlled  # less than the UNet takes with what it gives
    assert denoising(pose, edge) == int(UNET * union_factor(2, several=False) / STEP_PLAIN)
    assert denoising(pose, edge) > controlled
    # What is called by itself is there while the union is called.
    for other in (elsewhere, ControlNetGuidance("canny")):
        assert denoising(pose, edge, other) == int(
            UNET * union_factor(2, several=True) / STEP_PLAIN
        )


def test_shapes_decide_what_phases_take() -> None:
    def needs(**changes: object) -> dict[Phase, int]:
        return dict(phase_bytes(SHAPED, SHAPED, resolved(**changes), number=2))

    plain = needs()
    assert needs(guidance=GuidanceSettings(1.0))[Phase.DENOISING] * 2 == plain[Phase.DENOISING]
    assert needs(height=512)[Phase.DECODING] == 2 * plain[Phase.DECODING]
    start = needs(image_to_image=ImageToImage())
    assert start[Phase.PREPARING_INPUT] == ENCODE * 16 * 512 * 256 * 2
    again = SecondPass(scale=2.0, steps=2, guidance=GuidanceSettings())
    twice = needs(second_pass=again)
    assert twice[Phase.DENOISING] == 4 * plain[Phase.DENOISING]
    assert twice[Phase.DECODING] == 4 * plain[Phase.DECODING]
    tiled = needs(width=2048, height=2048, vae_tiling=Toggle.ON)
    assert tiled[Phase.DECODING] == needs(width=512, height=512)[Phase.DECODING]


def test_a_vae_that_overflows_is_computed_in_float32_everywhere() -> None:
    wide = replace(
        SHAPED,
        components=(*NETWORKS[:3], replace(NETWORKS[3], full_precision=True)),
    )

    half = phase_bytes(SHAPED, SHAPED, resolved(), number=2)
    full = phase_bytes(SHAPED, wide, resolved(), number=2)

    assert full[Phase.DECODING] == 2 * half[Phase.DECODING]
    assert full[Phase.DENOISING] == half[Phase.DENOISING]
    card = Device("cuda:0", DeviceKind.CUDA, "card", "", "cuda:0", ByteFigure.unknown("a fake"))
    assert weights_by_header(SHAPED, card, ()).value == 112_000 * 2
    assert weights_by_header(wide, card, ()).value == 112_000 * 2 + 10_000 * 2


def test_a_lone_vae_of_any_name_is_the_one_that_is_used() -> None:
    lone = replace(SHAPED, components=(Component("model", "AutoencoderKL", 5, widths=(8, 8)),))

    needs = phase_bytes(SHAPED, lone, resolved(), number=4)

    assert needs[Phase.DECODING] == 5 * 8 * 512 * 256 * 4


async def test_so_many_are_drawn_together_as_free_memory_suffices_for(bench: Bench) -> None:
    bench.models.model = SHAPED
    none: Any = None
    message = batch_pb2.CreateBatchRequest()
    message.template.width, message.template.height, message.template.steps = 512, 256, 2
    message.template.prompt = "a cat"
    made = GenerationTemplate(
        message.SerializeToString(), bench.preparer, bench.pictures, bench.forecasts, none, none
    )
    work = ItemWork("one", b"")

    async def fitting(*seeds: int) -> int | None:
        return await made.at_once(work, Settled(seeds, SHAPED.model_id), ["cpu:0"])

    bench.machine.free = WEIGHTS + SPARE_BYTES + 7 * UNET
    assert (await fitting(1), await fitting(1, 2, 3)) == (7, 2)
    bench.machine.free = WEIGHTS + SPARE_BYTES + UNET - 1
    assert await fitting(1) == 0
    bench.machine.free = None
    assert await fitting(1) is None
    bench.models.model = MODEL
    bench.machine.free = 1 << 30
    assert await fitting(1) is None  # its header does not tell its shapes
    bench.models.model = SHAPED
    bench.machine.total = WEIGHTS - 1
    with pytest.raises(ResourceExhausted):
        await fitting(1)
