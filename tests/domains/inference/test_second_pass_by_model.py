"""A second pass of what an upscaler enlarges: what is refused, and what is told beforehand."""

from __future__ import annotations

from dataclasses import replace as with_other
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from deviceops.v1 import generation_pb2
from domains.errors import Reason
from domains.inference import convert
from domains.inference.core.capabilities import CapabilityInquiry
from domains.inference.core.later_parts import resolved_part
from domains.inference.core.memory_needs import phase_bytes
from domains.inference.core.resolution import effort_of
from domains.inference.core.second_pass import NO_UPSCALER
from domains.inference.types import (
    GenerationSettings,
    ImageToImage,
    PrecisionMode,
    SecondPass,
    SecondPassUpscale,
)
from domains.model.core.enlarging import TILE_ON_DEVICE, TILE_ON_PROCESSOR, tile_bytes
from domains.model.types import Enlargement, ModelType
from domains.session.types import Phase
from domains.values import ModelPlace
from tests.domains.inference.conftest import MODEL, NO_MARKS, Bench, FakeDevices, request
from tests.domains.inference.test_batches import batch, refused
from tests.domains.inference.test_forecast import SHAPED

FIELD = "settings.second_pass"
UPSCALER = with_other(
    MODEL,
    model_id="twice",
    type=ModelType.UPSCALER,
    architecture=None,
    place=ModelPlace.of(Path("twice.safetensors")),
    components=(),
    parameter_count=600_000,
    enlargement=Enlargement(2, 300),
)
FOUR = with_other(UPSCALER, model_id="four", enlargement=Enlargement(4, 900))
MENDS = with_other(UPSCALER, model_id="mends", enlargement=Enlargement(1, 300))
FOREIGN = with_other(UPSCALER, model_id="foreign", enlargement=None)


def by_model(postprocessor_id: str = "", **second: Any) -> GenerationSettings:
    again = SecondPass(
        upscale=SecondPassUpscale.MODEL, postprocessor_id=postprocessor_id, **second
    )
    return GenerationSettings(
        prompt="a cat", seed=1, steps=10, width=256, height=256, second_pass=again
    )


@pytest.fixture
def stocked(bench: Bench) -> Bench:
    """With upscalers."""
    for each in (UPSCALER, FOUR, MENDS, FOREIGN):
        bench.models.others[each.model_id] = each
    return bench


async def named(bench: Bench, settings: GenerationSettings) -> str:
    verdict = await bench.generations.validate(request(settings))
    assert verdict.violations == ()
    assert verdict.failure is None
    assert verdict.settings is not None
    assert verdict.settings.second_pass is not None
    return verdict.settings.second_pass.postprocessor_id


@pytest.mark.parametrize(("scale", "best"), [(1.5, "twice"), (2.0, "twice"), (3.0, "four")])
async def test_none_is_the_best_installed_for_the_scale(
    stocked: Bench, scale: float, best: str
) -> None:
    assert await named(stocked, by_model(scale=scale)) == best


async def test_the_one_that_is_named_works(stocked: Bench) -> None:
    assert [event async for event in stocked.run(request(by_model("four")))]
    (job,) = stocked.pool.works
    (companion,) = job.companions
    assert (companion.model_id, companion.model_type) == ("four", ModelType.UPSCALER)
    assert job.settings.second_pass is not None
    assert job.settings.second_pass.postprocessor_id == "four"
    assert [each.model_id for each in job.model.beside] == ["four"]
    assert job.places == {"emoji": MODEL.place}, "it is loaded by the work that uses it"
    assert stocked.models.used == ["emoji", "four"]


async def failure_of(bench: Bench, settings: GenerationSettings) -> Any:
    verdict = await bench.generations.validate(request(settings))
    assert bench.pool.works == []
    return verdict.failure


async def test_an_upscaler_that_is_not_there_is_named_with_its_field(stocked: Bench) -> None:
    failure = await failure_of(stocked, by_model("nobody"))
    assert failure.reason is Reason.MODEL_NOT_FOUND
    assert failure.metadata["field"] == f"{FIELD}.postprocessor_id"


async def test_without_any_installed_it_says_what_to_do(bench: Bench) -> None:
    failure = await failure_of(bench, by_model())
    assert failure.reason is Reason.POSTPROCESSOR_NOT_FOUND
    assert failure.metadata["field"] == f"{FIELD}.postprocessor_id"
    assert NO_UPSCALER in failure.message


async def violations_of(bench: Bench, settings: GenerationSettings) -> list[tuple[str, Reason]]:
    verdict = await bench.generations.validate(request(settings))
    assert verdict.failure is None
    assert bench.pool.works == []
    return [(each.field, each.reason) for each in verdict.violations]


@pytest.mark.parametrize("upscale", [SecondPassUpscale.LATENT, SecondPassUpscale.PIXELS])
async def test_an_upscaler_goes_with_no_other_way(
    stocked: Bench, upscale: SecondPassUpscale
) -> None:
    settings = by_model("twice")
    assert settings.second_pass is not None
    settings = replace(settings, second_pass=replace(settings.second_pass, upscale=upscale))
    assert await violations_of(stocked, settings) == [
        (f"{FIELD}.postprocessor_id", Reason.FIELDS_CONFLICT)
    ]


@pytest.mark.parametrize("name", ["twice", "foreign"])
@pytest.mark.parametrize("scale", [1.0, 1.01])
async def test_a_size_that_stays_leaves_it_nothing_to_do(
    stocked: Bench, name: str, scale: float
) -> None:
    assert await violations_of(stocked, by_model(name, scale=scale)) == [
        (f"{FIELD}.scale", Reason.DIMENSIONS_INVALID)
    ]
    assert await violations_of(stocked, by_model("mends", scale=scale)) == []


async def test_a_size_is_refused_as_with_every_way(stocked: Bench) -> None:
    settings = replace(by_model("twice", scale=4.0), width=520)
    assert await violations_of(stocked, settings) == [
        (f"{FIELD}.scale", Reason.DIMENSIONS_INVALID)
    ]


async def test_of_a_batch_the_item_that_names_it_is_told(stocked: Bench) -> None:
    wanted = batch(by_model("twice"), by_model("nobody"))
    origins = {"second_pass": "items[1].overlay.settings"}
    items = (wanted.items[0], with_other(wanted.items[1], origins=origins))
    error = await refused(stocked, with_other(wanted, items=items))
    assert error.reason is Reason.MODEL_NOT_FOUND
    assert error.metadata["field"] == ("items[1].overlay.settings.second_pass.postprocessor_id")


@pytest.fixture
def work() -> GenerationSettings:
    asked = replace(by_model("twice"), seeds=(1, 2), seed=None)
    return replace(asked, second_pass=resolved_part(asked.second_pass, asked))


def test_its_effort_is_compared_with_that_of_the_same_upscaler_alone(
    work: GenerationSettings,
) -> None:
    effort, again = effort_of(work), work.second_pass
    assert again is not None
    assert effort.amounts[Phase.PREPARING_INPUT] == 2 * 5 * 256 * 256
    pixels = replace(again, upscale=SecondPassUpscale.PIXELS, postprocessor_id="")
    manners = {
        effort_of(replace(work, second_pass=each)).manner
        for each in (again, replace(again, postprocessor_id="four"), pixels, None)
    }
    assert len(manners) == 3


@pytest.mark.parametrize("processor", [True, False])
@pytest.mark.parametrize("precision", [PrecisionMode.EXACT, PrecisionMode.FASTEST])
def test_its_tiles_take_memory_while_inputs_are_prepared(
    work: GenerationSettings, processor: bool, precision: PrecisionMode
) -> None:
    wide = replace(work, width=1024, precision=precision)
    number = 4 if precision is PrecisionMode.EXACT else 2
    without = phase_bytes(SHAPED, SHAPED, wide, number=2)[Phase.PREPARING_INPUT]
    for upscaler, factor, numbers in ((FOUR, 4, 100_000), (FOREIGN, 4, 6_000)):
        if upscaler.enlargement is not None:
            upscaler = with_other(upscaler, enlargement=Enlargement(factor, numbers))
        needs = phase_bytes(SHAPED, SHAPED, wide, upscaler, number=2, in_main_memory=processor)[
            Phase.PREPARING_INPUT
        ]
        edge = TILE_ON_PROCESSOR if processor else TILE_ON_DEVICE
        assert needs == max(
            without, tile_bytes((edge, min(edge, 256)), 1024, factor, numbers, number)
        )


async def test_its_weights_and_tiles_are_told(stocked: Bench) -> None:
    stocked.models.model = SHAPED
    heavy = with_other(UPSCALER, enlargement=Enlargement(2, 100_000))
    stocked.models.others["twice"] = heavy
    plain = await stocked.generations.validate(
        request(replace(by_model(), second_pass=None, image_to_image=ImageToImage()))
    )
    verdict = await stocked.generations.validate(request(by_model("twice")))
    assert plain.forecast is not None
    assert verdict.forecast is not None
    before, told = dict(plain.forecast.phases), dict(verdict.forecast.phases)
    weights = told[Phase.ENCODING_TEXT].value or 0
    assert weights == (before[Phase.ENCODING_TEXT].value or 0) + 600_000 * 4
    tiles = tile_bytes((192, 192), 256, 2, 100_000, 4)
    assert told[Phase.PREPARING_INPUT].value == weights + tiles
    assert verdict.forecast.memory.value == weights + tiles


async def test_capabilities_tell_whether_there_is_one(bench: Bench) -> None:
    inquiry = CapabilityInquiry(FakeDevices(), bench.models, NO_MARKS)

    async def told() -> str:
        found = await inquiry.describe("", "")
        (feature,) = [
            each for each in found.features if each.field == "second_pass.postprocessor_id"
        ]
        return feature.explanation

    assert await told() == NO_UPSCALER
    bench.models.others["twice"] = UPSCALER
    assert await told() == ""


def test_it_comes_and_goes_on_the_wire() -> None:
    message = generation_pb2.GenerationSettings()
    message.second_pass.upscale = generation_pb2.SECOND_PASS_UPSCALE_MODEL
    message.second_pass.postprocessor_id = "twice"
    settings = convert.settings_from_proto(message)
    assert settings.second_pass == SecondPass(
        upscale=SecondPassUpscale.MODEL, postprocessor_id="twice"
    )
    again = convert.settings_to_proto(settings)
    assert again.second_pass.postprocessor_id == "twice"
    assert again.second_pass.upscale == generation_pb2.SECOND_PASS_UPSCALE_MODEL
