"""Batches from request to result: items, their failures, pauses, what is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from domains.device.types import ANY_DEVICE
from domains.errors import (
    DomainError,
    FailedPrecondition,
    FeatureNotBuilt,
    FieldViolation,
    Internal,
    InvalidArgument,
    Reason,
    Unavailable,
)
from domains.inference.core.statistics import Timed
from domains.inference.errors import InvalidGeneration
from domains.inference.types import (
    GenerationFacts,
    GenerationSettings,
    ImageToImage,
    LoraWeight,
)
from domains.inference.types.batches import (
    BatchItem,
    GenerationBatchReport,
    GenerationBatchRequest,
)
from domains.picture.types import InputImage
from domains.session.core.session import Session
from domains.session.errors import SessionCancelled, SessionFailed
from domains.session.turns import Paused
from domains.session.types import (
    Accepted,
    Completed,
    Delivery,
    ImageFinished,
    ImageResult,
    ItemFinished,
    PhaseStarted,
    SessionEvent,
    SessionKind,
    SessionState,
    StepFinished,
    WorkOptions,
)
from domains.values import ImageFileFormat
from tests.domains.inference.conftest import Bench, request
from tests.domains.sessions import runner_of, until_final

CAT = GenerationSettings(prompt="a cat", steps=2, seed=1)
DOGS = GenerationSettings(prompt="dogs", steps=3, seeds=(8, 9))


def batch(
    *settings: GenerationSettings, image: InputImage | None = None, **changes: Any
) -> GenerationBatchRequest:
    """Items "0", "1" and so on, each with its settings and a prompt of its own."""
    items = tuple(
        BatchItem(
            str(k),
            request(one, image=image),
            {"prompt": f"items[{k}].overlay.settings"},
        )
        for k, one in enumerate(settings)
    )
    made = GenerationBatchRequest(
        BatchItem("", request(settings[0] if settings else CAT)),
        items,
        "items",
        WorkOptions(),
        ANY_DEVICE,
        b"",
        Delivery(image_data=False),
    )
    return replace(made, **changes)


def run(bench: Bench, wanted: GenerationBatchRequest) -> AsyncGenerator[SessionEvent]:
    """Its events, as its call gets them."""
    runner = runner_of(bench.sessions, bench.artifacts)
    return runner.run(bench.batches.generate(wanted), wanted.delivery)


async def draw(bench: Bench, wanted: GenerationBatchRequest) -> list[SessionEvent]:
    """Every event of a batch that works."""
    return [event async for event in run(bench, wanted)]


async def refused(bench: Bench, wanted: GenerationBatchRequest) -> DomainError:
    """What a batch is refused with, of which nothing was begun."""
    with pytest.raises(DomainError) as error:
        await draw(bench, wanted)
    assert bench.sessions.all() == ()
    return error.value


def ended(events: list[SessionEvent]) -> list[ItemFinished]:
    return [event.event for event in events if isinstance(event.event, ItemFinished)]


async def test_items_are_drawn_one_by_one_and_counted_together(bench: Bench) -> None:
    events = await draw(bench, batch(CAT, DOGS))

    accepted = events[0].event
    assert isinstance(accepted, Accepted)
    assert accepted.kind is SessionKind.GENERATION_BATCH
    assert accepted.seeds == (1, 8, 9)
    assert accepted.steps == 0, "they differ"
    pictures = [
        (event.item_id, event.event.image.image_index, event.event.image.seed)
        for event in events
        if isinstance(event.event, ImageFinished)
    ]
    assert pictures == [("0", 0, 1), ("1", 1, 8), ("1", 2, 9)]
    starts = [
        (event.item_id, event.event.image_index)
        for event in events
        if isinstance(event.event, PhaseStarted)
    ]
    assert starts == [("0", 0), ("1", 1)]
    steps = [
        (event.item_id, event.event.image_index)
        for event in events
        if isinstance(event.event, StepFinished)
    ]
    assert steps == [("0", 0)] * 2 + [("1", 1)] * 3
    first, second = ended(events)
    assert (first.done, first.failed, first.total) == (1, 0, 2)
    assert [one.image_index for one in second.images] == [1, 2]
    assert isinstance(second.report, GenerationFacts)
    assert second.report.settings.prompt == "dogs"
    end = events[-1].event
    assert isinstance(end, Completed)
    assert end.report == GenerationBatchReport(2, 0)
    assert [one.item_id for one in end.images] == ["0", "1", "1"]
    assert [job.settings.prompt for job in bench.pool.works] == ["a cat", "dogs"]
    assert bench.models.used == ["emoji", "emoji"]


async def test_steps_that_all_have_are_told(bench: Bench) -> None:
    accepted = (await draw(bench, batch(CAT, CAT)))[0].event
    assert isinstance(accepted, Accepted)
    assert accepted.steps == 2


async def test_an_items_failure_is_told_and_the_others_are_drawn(bench: Bench) -> None:
    whole = bench.pool.run

    async def run(device: str, session: str, job: Any, *, remaining: float) -> Any:
        bench.pool.failure = (
            FailedPrecondition("nan", reason=Reason.NON_FINITE_OUTPUT)
            if job.settings.prompt == "dogs"
            else None
        )
        async for event in whole(device, session, job, remaining=remaining):
            yield event

    bench.pool.run = run  # type: ignore[method-assign]
    events = await draw(bench, batch(CAT, DOGS, CAT))

    middle = ended(events)[1]
    assert middle.failure is not None
    assert middle.failure.reason is Reason.NON_FINITE_OUTPUT
    assert (middle.done, middle.failed, middle.total, middle.images) == (2, 1, 3, ())
    end = events[-1].event
    assert isinstance(end, Completed)
    assert end.report == GenerationBatchReport(2, 1)
    assert [(one.item_id, one.image_index) for one in end.images] == [("0", 0), ("2", 3)]


async def test_a_field_that_only_the_worker_could_refuse_is_named_where_it_was_set(
    bench: Bench,
) -> None:
    broken = FieldViolation("clip_skip", Reason.FIELD_OUT_OF_RANGE, "Too many.")
    bench.pool.failure = InvalidArgument.of(broken)
    wanted = batch(CAT, DOGS)
    own = replace(wanted.items[1], origins={"clip_skip": "items[1].overlay.settings"})
    wanted = replace(wanted, items=(wanted.items[0], own))

    failures = [each.failure for each in ended(await draw(bench, wanted))]

    assert [[each.field for each in one.violations] for one in failures if one] == [
        ["template.clip_skip"],
        ["items[1].overlay.settings.clip_skip"],
    ]


async def test_a_fault_of_ours_costs_its_item_alone(bench: Bench) -> None:
    bench.pool.failure = ZeroDivisionError("ours")
    first = ended(await draw(bench, batch(CAT)))[0]
    assert first.failure is not None
    assert first.failure.code == Internal.code
    assert first.failure.incident_id


@pytest.mark.parametrize(
    "reason", [Reason.DEVICE_LOST, Reason.DEVICE_UNAVAILABLE, Reason.DEVICE_QUARANTINED]
)
async def test_without_a_device_the_batch_fails(bench: Bench, reason: Reason) -> None:
    bench.pool.failure = Unavailable("gone", reason=reason)
    with pytest.raises(SessionFailed) as error:
        await draw(bench, batch(CAT, DOGS))
    assert error.value.reason is reason
    assert len(bench.pool.works) == 1


async def test_what_items_break_is_named_where_it_was_set_and_once(bench: Bench) -> None:
    long, wide = "a" * 10_001, structs.replace(CAT, width=100)
    error = await refused(bench, batch(wide, structs.replace(wide, prompt=long), wide))
    assert isinstance(error, InvalidGeneration)
    assert [each.field for each in error.violations] == [
        "template.width",
        "items[1].overlay.settings.prompt",
    ]
    assert error.message.startswith("template.width: ")


async def test_a_model_that_is_not_there_is_named_where_it_was_set(bench: Bench) -> None:
    ink = structs.replace(CAT, loras=(LoraWeight("ink"),))
    wanted = batch(CAT, ink)
    items = (
        wanted.items[0],
        replace(wanted.items[1], origins={"loras": "items[1].overlay.settings"}),
    )
    error = await refused(bench, replace(wanted, items=items))
    assert error.reason is Reason.MODEL_NOT_FOUND
    assert error.metadata["field"] == "items[1].overlay.settings.loras[0].model_id"


async def test_what_is_not_built_is_named_where_it_was_set(bench: Bench) -> None:
    wanted = batch(CAT)
    unbuilt = replace(wanted.items[0].request, unbuilt=("settings.regions", "postprocessing"))
    error = await refused(
        bench, replace(wanted, items=(replace(wanted.items[0], request=unbuilt),))
    )
    assert isinstance(error, FeatureNotBuilt)
    assert error.fields == ("template.regions", "postprocessing")


async def test_more_pictures_than_a_batch_may_have_are_refused(bench: Bench) -> None:
    nine = structs.replace(CAT, image_count=9)
    error = await refused(bench, batch(*[nine] * 29))
    assert [(each.field, each.reason) for each in error.violations] == [
        ("items", Reason.TOO_MANY_ELEMENTS)
    ]
    assert "261" in error.message


async def test_a_batch_of_nothing_is_refused_with_what_its_template_breaks(
    bench: Bench,
) -> None:
    wanted = batch()
    error = await refused(bench, wanted)
    assert [(each.field, each.reason) for each in error.violations] == [
        ("items", Reason.FIELD_OUT_OF_RANGE)
    ]
    wide = BatchItem("", request(structs.replace(CAT, width=100)))
    error = await refused(bench, replace(wanted, template=wide))
    assert [each.field for each in error.violations] == ["template.width", "items"]
    unbuilt = replace(wide, request=replace(wide.request, unbuilt=("settings.regions",)))
    error = await refused(bench, replace(wanted, template=unbuilt))
    assert isinstance(error, FeatureNotBuilt)
    assert error.fields == ("template.regions",)


async def test_a_picture_that_items_share_is_prepared_once(bench: Bench) -> None:
    start = structs.replace(CAT, image_to_image=ImageToImage(1.0))
    other = structs.replace(start, width=512, height=512)
    await draw(bench, batch(start, start, other, image=InputImage(inline=b"x")))
    assert len(bench.pictures.asked) == 2
    paths = [job.picture for job in bench.pool.works]
    assert all(paths)


async def begun(
    bench: Bench, wanted: GenerationBatchRequest
) -> tuple[asyncio.Task[list[SessionEvent]], Session]:
    """A batch whose first item is at work and holds."""
    bench.pool.hold = asyncio.Event()
    call = asyncio.create_task(draw(bench, wanted))
    await bench.pool.holding.wait()
    return call, bench.sessions.all()[0]


async def paused(bench: Bench, session: Session) -> None:
    bench.sessions.pause(session, "lunch", "mary")
    async with asyncio.timeout(30):
        while session.state is not SessionState.PAUSED:
            await session.log.change().wait()
    bench.pool.pausing, bench.pool.hold = False, None


async def test_a_pause_within_an_item_goes_on_within_it(bench: Bench) -> None:
    call, session = await begun(bench, batch(DOGS, CAT))
    await paused(bench, session)
    assert [one.item_id for one in session.images] == ["0"]
    bench.sessions.resume(session, "mary")
    events = await call

    assert [(job.settings.prompt, job.first_image) for job in bench.pool.works] == [
        ("dogs", 0),
        ("dogs", 1),
        ("a cat", 0),
    ]
    assert [job.paused_file for job in bench.pool.works] == [
        Path("1.paused"),
        Path("1.paused"),
        Path("2.paused"),
    ]
    assert bench.paused.removed == [Path("1.paused"), Path("2.paused")]
    assert sum(isinstance(event.event, Paused) for event in events) == 1
    end = events[-1].event
    assert isinstance(end, Completed)
    assert [one.image_index for one in end.images] == [0, 1, 2]
    assert [each.detail for each in end.degradations] == ["Tiled."]


async def test_a_pause_that_an_item_ended_before_begins_no_other(bench: Bench) -> None:
    call, session = await begun(bench, batch(CAT, DOGS))
    await paused(bench, session)
    assert len(bench.pool.works) == 1
    bench.sessions.resume(session, "mary")
    events = await call
    assert [one.item_id for one in ended(events)] == ["0", "1"]
    assert [job.settings.prompt for job in bench.pool.works] == ["a cat", "dogs"]


async def test_a_cancelled_batch_keeps_what_is_finished(bench: Bench) -> None:
    call, session = await begun(bench, batch(CAT, DOGS))
    session.request_cancel(Reason.CANCELLED_BY_CLIENT)
    with pytest.raises(SessionCancelled):
        await call
    assert len(bench.pool.works) == 1, "the next item is not begun"
    assert bench.paused.removed == [Path("1.paused")]


async def test_what_is_learned_of_a_device_comes_from_items_that_worked(bench: Bench) -> None:
    await draw(bench, batch(CAT, DOGS))
    assert bench.sessions.speeds.lessons == 2
    bench.pool.failure = FailedPrecondition("nan", reason=Reason.NON_FINITE_OUTPUT)
    await draw(bench, batch(CAT))
    assert bench.sessions.speeds.lessons == 2


async def test_an_item_of_which_an_earlier_server_drew_a_part_teaches_nothing(
    bench: Bench,
) -> None:
    runner = runner_of(bench.sessions, bench.artifacts)
    session = await runner.begin(bench.batches.generate(batch(DOGS, CAT)))
    image = ImageResult(0, 8, "a" * 64, ImageFileFormat.PNG, 256, 320, 10, item_id="0")
    session.images = (image,)
    await until_final(session)
    assert [job.first_image for job in bench.pool.works] == [1, 0]
    assert bench.sessions.speeds.lessons == 1


async def test_statistics_count_a_batch_as_one_session(bench: Bench) -> None:
    await draw(bench, batch(CAT, DOGS))
    account = bench.statistics.accounts("", "")[0]
    assert (account.completed, account.images) == (1, 3)
    assert account.times[Timed.STEP].count == 5
    assert Timed.ENCODE_TEXT not in account.times, "of an item, not of a session"
