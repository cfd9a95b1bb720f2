"""From request to result: resolution, errors, cancelling, idempotency."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest
from msgspec import structs

from domains.device.types import ANY_DEVICE, NamedDevice, Placement
from domains.errors import (
    DomainError,
    FieldViolation,
    InvalidArgument,
    NotFound,
    Reason,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from domains.inference.core.capabilities import CapabilityInquiry
from domains.inference.core.text_layers import check_clip_skip
from domains.inference.errors import InvalidGeneration, LoraRefused
from domains.inference.types import (
    DdimOptions,
    GenerationFacts,
    GenerationRequest,
    GenerationSettings,
    GuidanceSettings,
    LoraWeight,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
    SdxlSettings,
    SigmaSpacing,
)
from domains.model.types import Component, ModelType, PredictionType
from domains.session.errors import RequestIdReused, SessionCancelled, SessionFailed
from domains.session.types import (
    Accepted,
    Cancelled,
    Completed,
    Delivery,
    Failed,
    ImageChunk,
    ImageFinished,
    Phase,
    Preview,
    PreviewSettings,
    SessionEvent,
    SessionState,
    WorkOptions,
)
from domains.values import DegradationKind, OutputSettings
from tests.domains.inference.conftest import MODEL, NO_MARKS, Bench, FakeDevices, request

REQUEST_ID = "6f1c1c0e-3f5b-4b3e-9a52-0d6c5b1f2a10"


async def draw(bench: Bench, wanted: GenerationRequest) -> list[SessionEvent]:
    """Every event of a generation that works."""
    async with asyncio.timeout(30):
        return [event async for event in bench.run(wanted)]


async def fate(
    bench: Bench, wanted: GenerationRequest
) -> tuple[list[SessionEvent], DomainError]:
    """Every event of a generation that does not work, and what it ended with."""
    events: list[SessionEvent] = []

    async def follow() -> None:
        async for event in bench.run(wanted):
            events.append(event)

    with pytest.raises(DomainError) as end:
        await asyncio.wait_for(follow(), 30)
    return events, end.value


async def test_a_generation_is_resolved_run_and_told(bench: Bench) -> None:
    events = await draw(bench, request())

    (job,) = bench.pool.works
    work = job.settings
    assert (work.width, work.height) == (256, 320)
    assert (work.steps, work.guidance.scale) == (2, 7.5)
    assert work.scheduler.scheduler is Scheduler.EULER_DISCRETE
    assert work.precision is PrecisionMode.OPEN
    accepted, completed = events[0].event, events[-1].event
    assert isinstance(accepted, Accepted)
    assert accepted.seeds == (1,)
    assert accepted.expected_phases[:3] == (Phase.QUEUED, Phase.READING, Phase.LOADING_MODEL)
    assert (await bench.generations.validate(request())).phases == accepted.expected_phases
    assert isinstance(completed, Completed)
    assert completed.images[0].artifact_id == "a" * 64
    assert completed.timings[Phase.DENOISING] == 1.0
    assert isinstance(completed.report, GenerationFacts)
    assert completed.report.software_versions == {"torch": "2"}
    assert [(each.model_id, each.sha256) for each in completed.report.models] == [
        ("emoji", "5" * 64)
    ]
    assert completed.report.settings == structs.replace(work, precision=PrecisionMode.EXACT)
    assert bench.artifacts.adopted == ["a" * 64]
    assert bench.models.used == ["emoji"]
    assert any(isinstance(event.event, ImageChunk) for event in events)


async def test_pictures_can_be_left_out_of_the_stream(bench: Bench) -> None:
    events = await draw(bench, replace(request(), delivery=Delivery(image_data=False)))

    assert not any(isinstance(event.event, ImageChunk) for event in events)
    assert any(isinstance(event.event, ImageFinished) for event in events)


async def test_previews_come_only_when_asked_for(bench: Bench) -> None:
    without = await draw(bench, request())
    wanted = replace(request(), delivery=Delivery(previews=PreviewSettings(1)))
    bench.pool.hold = asyncio.Event()
    reader = asyncio.create_task(draw(bench, wanted))
    await bench.pool.holding.wait()
    bench.pool.hold.set()
    with_previews = await reader

    assert not any(isinstance(event.event, Preview) for event in without)
    assert bench.pool.works[-1].previews.every_steps == 1
    assert isinstance(with_previews[-1].event, Completed)


@pytest.mark.parametrize(
    ("settings", "seeds"),
    [
        (GenerationSettings(seed=5, image_count=3), (5, 6, 7)),
        (GenerationSettings(seed=2**32 - 1, image_count=2), (2**32 - 1, 0)),
        (GenerationSettings(seeds=(9, 3)), (9, 3)),
        (GenerationSettings(image_count=2), (2**32 - 1, 0)),  # the random one is the last
        (GenerationSettings(), (2**32 - 1,)),
    ],
)
async def test_seeds_count_up_from_the_first(
    bench: Bench, settings: GenerationSettings, seeds: tuple[int, ...]
) -> None:
    await draw(bench, request(structs.replace(settings, steps=1)))

    assert bench.pool.works[0].settings.seeds == seeds


@pytest.mark.parametrize(
    ("settings", "field", "reason"),
    [
        (GenerationSettings(width=260), "settings.width", Reason.DIMENSIONS_INVALID),
        (GenerationSettings(height=4096), "settings.height", Reason.DIMENSIONS_INVALID),
        (GenerationSettings(steps=151), "settings.steps", Reason.FIELD_OUT_OF_RANGE),
        (
            GenerationSettings(guidance=GuidanceSettings(-0.01)),
            "settings.guidance.scale",
            Reason.FIELD_OUT_OF_RANGE,
        ),
        (
            GenerationSettings(guidance=GuidanceSettings(float("inf"))),
            "settings.guidance.scale",
            Reason.NON_FINITE_NUMBER,
        ),
        (GenerationSettings(seed=2**32), "settings.seed", Reason.SEED_INVALID),
        (GenerationSettings(seeds=(1, -1)), "settings.seeds[1]", Reason.SEED_INVALID),
        (GenerationSettings(seed=1, seeds=(1,)), "settings.seeds", Reason.FIELDS_CONFLICT),
        (
            GenerationSettings(seeds=(1, 2), image_count=3),
            "settings.seeds",
            Reason.SEED_INVALID,
        ),
        (GenerationSettings(seeds=(1,) * 10), "settings.seeds", Reason.TOO_MANY_ELEMENTS),
        (GenerationSettings(image_count=0), "settings.image_count", Reason.FIELD_OUT_OF_RANGE),
        (GenerationSettings(prompt="\0"), "settings.prompt", Reason.TEXT_INVALID),
        (
            GenerationSettings(negative_prompt="x" * 10_001),
            "settings.negative_prompt",
            Reason.TEXT_TOO_LONG,
        ),
        (
            GenerationSettings(output=OutputSettings(quality=0)),
            "settings.output.quality",
            Reason.FIELD_OUT_OF_RANGE,
        ),
        (
            GenerationSettings(sdxl=SdxlSettings(prompt_2="\0")),
            "settings.sdxl.prompt_2",
            Reason.TEXT_INVALID,
        ),
        (
            GenerationSettings(
                scheduler=SchedulerSettings(Scheduler.DDIM, ddim=DdimOptions(1.5))
            ),
            "settings.scheduler.ddim.eta",
            Reason.FIELD_OUT_OF_RANGE,
        ),
        (
            GenerationSettings(
                scheduler=SchedulerSettings(Scheduler.DDIM, SigmaSpacing.KARRAS)
            ),
            "settings.scheduler.spacing",
            Reason.FIELDS_CONFLICT,
        ),
        (
            GenerationSettings(scheduler=SchedulerSettings(ddim=DdimOptions(0.5))),
            "settings.scheduler.ddim",
            Reason.FIELDS_CONFLICT,
        ),
    ],
)
async def test_a_broken_rule_is_refused_before_anything_starts(
    bench: Bench, settings: GenerationSettings, field: str, reason: Reason
) -> None:
    events, error = await fate(bench, request(settings))
    verdict = await bench.generations.validate(request(settings))

    assert isinstance(error, InvalidGeneration)
    assert (field, reason) in [(each.field, each.reason) for each in error.violations]
    assert verdict.violations == error.violations
    assert events == []
    assert bench.pool.works == []


async def test_what_only_sdxl_has_needs_an_sdxl_model(bench: Bench) -> None:
    both = GenerationSettings(sdxl=SdxlSettings("apple", "dog"))
    assert await draw(bench, request(both))

    bench.models.model = replace(MODEL, components=MODEL.components[:1])
    _, error = await fate(bench, request(both))
    verdict = await bench.generations.validate(request(both))
    assert isinstance(error, InvalidGeneration)
    assert [(each.field, each.reason) for each in error.violations] == [
        ("settings.sdxl", Reason.FIELDS_CONFLICT),
    ]
    assert verdict.violations == error.violations
    assert await draw(bench, request())


async def test_a_model_that_predicts_the_picture_needs_a_scheduler_that_can(
    bench: Bench,
) -> None:
    ancestral, plain = (
        GenerationSettings(scheduler=SchedulerSettings(scheduler))
        for scheduler in (Scheduler.EULER_ANCESTRAL_DISCRETE, Scheduler.EULER_DISCRETE)
    )
    assert await draw(bench, request(ancestral))
    bench.models.model = replace(MODEL, prediction_type=PredictionType.SAMPLE)
    works = len(bench.pool.works)

    _, error = await fate(bench, request(ancestral))
    verdict = await bench.generations.validate(request(ancestral))

    assert isinstance(error, InvalidGeneration)
    assert [(each.field, each.reason) for each in error.violations] == [
        ("settings.scheduler.scheduler", Reason.FIELDS_CONFLICT),
    ]
    assert verdict.violations == error.violations
    assert len(bench.pool.works) == works
    assert await draw(bench, request(plain))
    told = await CapabilityInquiry(FakeDevices(), bench.models, NO_MARKS).describe("", "")
    assert plain.scheduler.scheduler in told.schedulers
    assert ancestral.scheduler.scheduler not in told.schedulers


async def test_commands_of_other_programs_in_a_prompt_are_told_from_the_beginning(
    bench: Bench,
) -> None:
    wanted = request(GenerationSettings(prompt="a (red:1.4) cat", steps=2, seed=1))

    verdict = await bench.generations.validate(wanted)
    events = await draw(bench, wanted)
    accepted, completed = events[0].event, events[-1].event

    assert isinstance(accepted, Accepted)
    assert isinstance(completed, Completed)
    (told,) = accepted.degradations
    assert told.kind is DegradationKind.PROMPT_SYNTAX_LITERAL
    assert verdict.degradations == completed.degradations == (told,)
    (plain, *_) = await draw(bench, request())
    assert isinstance(plain.event, Accepted)
    assert plain.event.degradations == ()


async def test_capabilities_tell_what_a_model_has_no_part_for(bench: Bench) -> None:
    inquiry = CapabilityInquiry(FakeDevices(), bench.models, NO_MARKS)
    two = await inquiry.describe("", "")
    bench.models.model = replace(MODEL, components=MODEL.components[:1])
    one = await inquiry.describe("", "")
    lacking = {each.field for each in one.features if each.explanation}
    before = {each.field for each in two.features if each.explanation}
    assert lacking - before == {"sdxl", "sdxl.refiner"}
    assert before < lacking
    assert one.schedulers == tuple(Scheduler)


async def test_a_checkpoint_without_a_vae_needs_one_named(bench: Bench) -> None:
    """Everybody says so: what can be asked for, a validation, and the call before it is
    accepted."""
    field = "GenerationSettings.vae_model_id"
    inquiry = CapabilityInquiry(FakeDevices(), bench.models, NO_MARKS)
    whole = await inquiry.describe("", "")
    bench.models.model = replace(MODEL, lacks_vae=True)
    bench.models.others["lent"] = replace(MODEL, model_id="lent", type=ModelType.VAE)
    bare = await inquiry.describe("", "")
    assert [each.field for each in bare.limits if each not in whole.limits] == [field]
    assert all(each.required for each in bare.limits if each.field == field)

    asked = request()
    verdict = await bench.generations.validate(asked)
    (violation,) = verdict.violations
    assert violation.field == "settings.vae_model_id"
    assert violation.reason is Reason.REQUIRED_FIELD_MISSING
    assert MODEL.model_id in violation.description
    with pytest.raises(InvalidGeneration) as refused:
        await draw(bench, asked)
    assert refused.value.violations == (violation,)
    assert bench.pool.works == []

    lent = request(structs.replace(asked.settings, vae_model_id="lent"))
    assert not (await bench.generations.validate(lent)).violations
    await draw(bench, lent)
    (job,) = bench.pool.works
    assert job.settings.vae_model_id == "lent"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (WorkOptions(request_id="no uuid"), "options.request_id"),
        (WorkOptions(run_timeout_seconds=0), "options.run_timeout"),
        (WorkOptions(run_timeout_seconds=-1), "options.run_timeout"),
        (WorkOptions(run_timeout_seconds=604_801), "options.run_timeout"),
        (WorkOptions(tags=("x",) * 33), "options.tags"),
        (WorkOptions(tags=("ok", "a\nb")), "options.tags[1]"),
        (WorkOptions(metadata={"../x": "y"}), "options.metadata"),
        (WorkOptions(metadata={"x": "y" * 1025}), "options.metadata"),
    ],
)
async def test_broken_options_are_refused(
    bench: Bench, options: WorkOptions, field: str
) -> None:
    _, error = await fate(bench, request(options=options))

    assert [violation.field for violation in error.violations] == [field]


async def test_the_edges_of_every_range_are_accepted(bench: Bench) -> None:
    low = GenerationSettings(
        width=256,
        height=256,
        steps=1,
        guidance=GuidanceSettings(0),
        clip_skip=0,
        seed=0,
        output=OutputSettings(quality=1),
    )
    high = GenerationSettings(
        width=2048,
        height=2048,
        steps=150,
        guidance=GuidanceSettings(30),
        clip_skip=8,
        seed=2**32 - 1,
    )

    for settings in (low, high):
        verdict = await bench.generations.validate(request(settings))
        assert verdict.violations == ()
        assert verdict.settings is not None


@pytest.mark.parametrize(
    ("settings", "placement", "reason"),
    [
        (GenerationSettings(model_id="other"), ANY_DEVICE, Reason.MODEL_NOT_FOUND),
        (GenerationSettings(), NamedDevice("cuda:0"), Reason.DEVICE_NOT_FOUND),
    ],
)
async def test_what_is_not_there_is_not_found(
    bench: Bench, settings: GenerationSettings, placement: Placement, reason: Reason
) -> None:
    wanted = replace(request(settings), placement=placement)

    _, error = await fate(bench, wanted)
    verdict = await bench.generations.validate(wanted)

    assert isinstance(error, NotFound)
    assert error.reason is reason
    assert verdict.failure is not None
    assert verdict.failure.reason is reason


async def test_a_model_that_is_not_there_is_told_by_the_field_that_names_it(
    bench: Bench,
) -> None:
    """A request may name several models."""
    _, error = await fate(bench, request(GenerationSettings(model_id="other")))

    assert error.metadata["field"] == "settings.model_id"


async def test_what_is_not_built_names_its_fields(bench: Bench) -> None:
    _, error = await fate(bench, replace(request(), unbuilt=("settings.loras",)))

    assert isinstance(error, Unimplemented)
    assert error.metadata["fields"] == "settings.loras"
    assert bench.pool.works == []


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Unavailable("gone", reason=Reason.WORKER_LOST), Reason.WORKER_LOST),
        (ResourceExhausted("full", reason=Reason.DEVICE_OUT_OF_MEMORY), None),
        (RuntimeError("a defect"), Reason.INTERNAL),
    ],
)
async def test_a_failing_run_ends_its_session_and_the_next_one_works(
    bench: Bench, failure: Exception, reason: Reason | None
) -> None:
    bench.pool.failure = failure

    events, error = await fate(bench, request())
    end = events[-1].event
    bench.pool.failure = None
    again = await draw(bench, request())

    assert isinstance(error, SessionFailed)
    assert isinstance(end, Failed)
    assert end.failure.reason is (reason or Reason.DEVICE_OUT_OF_MEMORY)
    assert error.reason is end.failure.reason
    assert isinstance(again[-1].event, Completed)


@pytest.mark.parametrize(("layers", "second", "skip", "most"), [(4, 5, 4, 3), (5, 4, 4, 3)])
def test_more_layers_are_left_out_than_a_text_encoder_has(
    layers: int, second: int, skip: int, most: int
) -> None:
    """SDXL reads the last layer but one, so that there is one less to leave out."""
    parts = (
        Component("text_encoder", "CLIPTextModel", layers=layers),
        Component("text_encoder_2", "CLIPTextModelWithProjection", layers=second),
    )
    model = replace(MODEL, components=parts)
    (found,) = check_clip_skip(GenerationSettings(clip_skip=skip), model, None, "s")
    assert (found.field, found.reason) == ("s.clip_skip", Reason.FIELD_OUT_OF_RANGE)
    assert f"at most {most}" in found.description
    assert model.model_id in found.description
    assert not list(check_clip_skip(GenerationSettings(clip_skip=most), model, None, "s"))


async def test_a_field_that_only_the_worker_could_refuse_is_named_as_in_the_request(
    bench: Bench,
) -> None:
    """Workers know settings, and not where a request has them."""
    broken = FieldViolation("clip_skip", Reason.FIELD_OUT_OF_RANGE, "Too many.")
    bench.pool.failure = InvalidArgument.of(broken)

    events, error = await fate(bench, request())

    end = events[-1].event
    assert isinstance(end, Failed)
    assert [each.field for each in end.failure.violations] == ["settings.clip_skip"]
    assert [each.field for each in error.violations] == ["settings.clip_skip"]


async def test_a_result_that_cannot_be_kept_fails_the_session(bench: Bench) -> None:
    bench.artifacts.failure = ResourceExhausted("full", reason=Reason.DISK_FULL)

    _, error = await fate(bench, request())

    assert error.reason is Reason.DISK_FULL


async def test_cancelling_asks_the_worker_and_ends_as_cancelled(bench: Bench) -> None:
    bench.pool.hold = asyncio.Event()
    reader = asyncio.create_task(fate(bench, request()))
    await bench.pool.holding.wait()
    (snapshot,) = _all_sessions(bench)
    session = bench.sessions.get(snapshot)

    session.request_cancel(Reason.CANCELLED_BY_CLIENT)
    assert session.state is SessionState.CANCELLING
    events, error = await reader

    end = events[-1].event
    assert isinstance(error, SessionCancelled)
    assert isinstance(end, Cancelled)
    assert end.phase is Phase.DENOISING


async def test_leaving_the_stream_cancels_the_work(bench: Bench) -> None:
    bench.pool.hold = asyncio.Event()
    stream = bench.run(request())
    async with aclosing(stream):
        await anext(stream)
        await bench.pool.holding.wait()

    async with asyncio.timeout(30):
        await bench.pool.cancelled.wait()


async def test_one_request_id_is_one_session_even_when_it_comes_at_once(
    bench: Bench,
) -> None:
    options = WorkOptions(request_id=REQUEST_ID)
    wanted = request(options=options, digest=b"one")

    runs = await asyncio.gather(*(draw(bench, wanted) for _ in range(20)))

    assert len(bench.pool.works) == 1
    assert len({events[0].session_id for events in runs}) == 1
    assert sum(not events[0].existing for events in runs) == 1
    with pytest.raises(RequestIdReused):
        await draw(bench, replace(wanted, digest=b"two"))


def _all_sessions(bench: Bench) -> list[str]:
    return [session.session_id for session in bench.sessions.all()]


async def test_a_lora_that_does_not_fit_is_refused_by_field_before_anything_starts(
    bench: Bench,
) -> None:
    bench.fits.failure = LoraRefused("ink", Reason.MODEL_INCOMPATIBLE, "unet.x", "It is odd.")
    wanted = request(GenerationSettings(loras=(LoraWeight("emoji"),)))

    _, error = await fate(bench, wanted)
    verdict = await bench.generations.validate(wanted)

    assert error.reason is Reason.MODEL_INCOMPATIBLE
    assert error.metadata["field"] == "settings.loras[0].model_id"
    assert error.metadata["tensor"] == "unet.x"
    assert verdict.failure is not None
    assert verdict.failure.metadata["field"] == "settings.loras[0].model_id"
    assert bench.pool.works == []
