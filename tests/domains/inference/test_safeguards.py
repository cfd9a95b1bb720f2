"""The server's default policy over generations: what is drawn, withheld, shown, recorded."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from domains.chain.types import AskedChain, CropStep, SafetyStep
from domains.errors import Cancelled, NotFound, Reason
from domains.inference.types import (
    GenerationSettings,
    ImagePrompt,
    ImagePromptInput,
    ImageToImage,
    PromptSyntax,
    SdxlSettings,
)
from domains.model.types import ModelType
from domains.picture.types import InputImage
from domains.safety import SafetyAction, SafetyPolicy, SafetyRule, SafetySubject
from domains.session.errors import SessionCancelled, SessionFailed
from domains.session.types import (
    Accepted,
    Completed,
    Delivery,
    ImageFinished,
    Phase,
    PhaseStarted,
    PreviewSettings,
    SessionEvent,
)
from domains.values import PictureMarks
from tests.domains.inference.conftest import MODEL, Bench, request

RESULT, PROMPT = SafetySubject.RESULT, SafetySubject.PROMPT
INPUT = SafetySubject.INPUT_IMAGE
BLOCK, WARN = SafetyAction.BLOCK, SafetyAction.WARN


def policy(*rules: SafetyRule) -> SafetyPolicy:
    return SafetyPolicy("house", 3, rules=rules, prompt_words=("bad*",), owner="boss")


WORDS = SafetyRule("words", 0.5, BLOCK)
DRAWN = SafetyRule("nsfw", 0.5, BLOCK, RESULT)
GIVEN = SafetyRule("nsfw", 0.5, BLOCK, INPUT)


def settings(prompt: str = "a cat", **more: object) -> GenerationSettings:
    return GenerationSettings(prompt=prompt, steps=2, seed=1, image_count=2, **more)  # type: ignore[arg-type]


async def drawn(bench: Bench, wanted: GenerationSettings, **more: object) -> list[SessionEvent]:
    asked = request(wanted, **more)  # type: ignore[arg-type]
    return [event async for event in bench.run(asked)]


def accepted(events: list[SessionEvent]) -> Accepted:
    first = events[0].event
    assert isinstance(first, Accepted)
    return first


def completed(events: list[SessionEvent]) -> Completed:
    last = events[-1].event
    assert isinstance(last, Completed)
    return last


async def test_without_a_policy_nothing_is_judged(bench: Bench) -> None:
    events = await drawn(bench, settings("a bad cat"))
    assert [each.safety for each in completed(events).images] == [None, None]
    assert bench.guard.decided == []
    assert bench.pool.works[0].policy is None


@pytest.mark.parametrize("field", ["prompt", "second"])
async def test_a_blocked_prompt_is_withheld_as_data_and_not_drawn(
    bench: Bench, field: str
) -> None:
    bench.guard.policy = policy(WORDS, DRAWN)
    wanted = settings("a ＢＡＤ cat")
    if field == "second":
        wanted = settings(sdxl=SdxlSettings(prompt_2="badly drawn"))
    events = await drawn(bench, wanted)
    images = completed(events).images
    assert [(each.artifact_id, each.size_bytes, each.withheld) for each in images] == [
        ("", 0, True)
    ] * 2
    assert [each.seed for each in images] == [1, 2]
    for each in images:
        assert each.safety is not None
        assert (each.safety.action, each.safety.subject) == (BLOCK, PROMPT)
        assert (each.safety.policy_id, each.safety.policy_version) == ("house", 3)
    assert len([e for e in events if isinstance(e.event, ImageFinished)]) == 2
    assert bench.pool.works == []
    assert bench.artifacts.adopted == []
    assert BLOCK in [each.action for each in bench.guard.decided]


@pytest.mark.parametrize(
    "prompt",
    ["a b(ad:1) cat", "a b(a:1.3)d cat", "[b]ad", "(bad)cat", "b(ad:1)(cat)", "(bad:1)cat"],
)
async def test_brackets_of_weights_hide_no_word(bench: Bench, prompt: str) -> None:
    bench.guard.policy = policy(WORDS)
    await drawn(bench, settings(prompt, prompt_syntax=PromptSyntax.WEIGHTED))
    assert bench.pool.works == []
    await drawn(bench, settings("b(ad) cat"))  # which are drawn, where they are no commands
    assert len(bench.pool.works) == 1


async def test_what_is_not_drawn_teaches_nothing_of_the_device(bench: Bench) -> None:
    await drawn(bench, settings())
    known, lessons = bench.sessions.speeds.measured(), bench.sessions.speeds.lessons
    bench.guard.policy, bench.pool.score = policy(WORDS, GIVEN), 0.6
    await drawn(bench, settings("a bad cat"))
    wanted = settings(image_to_image=ImageToImage(0.5))
    await drawn(bench, wanted, image=InputImage(b"picture"))
    assert (bench.sessions.speeds.measured(), bench.sessions.speeds.lessons) == (known, lessons)


async def test_a_negative_prompt_says_what_is_not_wanted(bench: Bench) -> None:
    bench.guard.policy = policy(WORDS)
    await drawn(bench, settings(negative_prompt="bad hands"))
    assert len(bench.pool.works) == 1


async def test_what_is_drawn_is_judged_before_anybody_has_it(bench: Bench) -> None:
    bench.guard.policy = policy(DRAWN)
    for score, withheld in ((0.4, False), (0.6, True)):
        bench.pool.score = score
        images = completed(await drawn(bench, settings())).images
        assert [each.withheld for each in images] == [withheld] * 2
        assert all(each.safety is not None for each in images)
    assert len(bench.artifacts.adopted) == 2
    subjects = [each.subject for each in bench.guard.decided]
    assert subjects.count(RESULT) == 4


async def test_what_may_be_withheld_is_not_shown_while_it_forms(bench: Bench) -> None:
    wanted = replace(request(settings()), delivery=Delivery(previews=PreviewSettings(1)))
    for rule, every in ((DRAWN, 0), (WORDS, 1)):
        bench.guard.policy = policy(rule)
        [event async for event in bench.run(wanted)]
        assert bench.pool.works[-1].previews.every_steps == every


async def test_a_picture_to_start_from_is_looked_at_first(bench: Bench) -> None:
    bench.guard.policy = policy(GIVEN)
    wanted = settings(image_to_image=ImageToImage(0.5))
    bench.pool.score = 0.6
    events = await drawn(bench, wanted, image=InputImage(b"picture"))
    for each in completed(events).images:
        assert each.safety is not None
        assert (each.withheld, each.safety.subject) == (True, INPUT)
    assert (len(bench.pool.checks), bench.pool.works) == (1, [])
    bench.pool.score = 0.4
    events = await drawn(bench, wanted, image=InputImage(b"picture"))
    assert [each.withheld for each in completed(events).images] == [False, False]
    assert (len(bench.pool.checks), len(bench.pool.works)) == (2, 1)
    expected = accepted(events).expected_phases
    assert expected[:2] == (Phase.QUEUED, Phase.CHECKING_SAFETY)
    seen = [each.event.phase for each in events if isinstance(each.event, PhaseStarted)]
    assert Phase.CHECKING_SAFETY in seen
    assert set(seen) <= set(expected)
    events = await drawn(bench, settings())
    assert len(bench.pool.checks) == 2
    assert Phase.CHECKING_SAFETY not in accepted(events).expected_phases


async def test_pictures_that_are_read_as_prompts_are_looked_at_and_masks_are_not(
    bench: Bench,
) -> None:
    encoder = replace(MODEL, model_id="clip", type=ModelType.IMAGE_ENCODER)
    bench.models.others["clip"] = encoder
    bench.guard.policy = policy(GIVEN)
    bench.pool.score = 0.6
    pictures = ImagePromptInput((InputImage(b"picture"),), mask=InputImage(b"mask"))
    wanted = settings(image_prompts=(ImagePrompt("emoji"),))
    events = await drawn(bench, wanted, image_prompts=(pictures,))
    assert [each.withheld for each in completed(events).images] == [True, True]
    (check,) = bench.pool.checks
    assert [each.grey for each in check.pictures] == [False]
    assert bench.pool.works == []


def chained(*steps: CropStep | SafetyStep) -> dict[str, AskedChain]:
    return {"chain": AskedChain(steps)}


def mild(action: SafetyAction = WARN, **more: Any) -> SafetyPolicy:
    rules = (SafetyRule("nsfw", 0.2, action),)
    return SafetyPolicy("mild", 1, rules=rules, owner="ann", **more)


CROP, MILD = CropStep(0, 0, 40, 24), SafetyStep("mild")


async def test_a_policy_that_a_step_names_judges_what_is_drawn(bench: Bench) -> None:
    bench.guard.others["mild"] = mild(BLOCK)
    for score, withheld in ((0.1, False), (0.3, True)):
        bench.pool.score = score
        events = await drawn(bench, settings(), **chained(CROP, MILD))
        for each in completed(events).images:
            assert each.safety is not None
            assert (each.safety.policy_id, each.withheld) == ("mild", withheld)
            assert (each.width, each.height) == (40, 24)
    assert len(bench.guard.decided) == 4
    session = bench.sessions.get(events[0].session_id)
    assert session.about.policies == ("ann/mild",)


async def test_the_default_policy_has_the_last_word(bench: Bench) -> None:
    bench.guard.policy, bench.guard.others["mild"] = policy(DRAWN), mild()
    told = []
    for score in (0.1, 0.3, 0.6):
        bench.pool.score = score
        events = await drawn(bench, settings(), **chained(MILD, CROP))
        (verdict, _) = [each.safety for each in completed(events).images]
        assert verdict is not None
        told.append((verdict.policy_id, verdict.action))
    assert told == [("house", SafetyAction.ALLOW), ("mild", WARN), ("house", BLOCK)]
    session = bench.sessions.get(events[0].session_id)
    assert session.about.policies == ("boss/house", "ann/mild")
    # Where it is the last step already it judges once, and an empty name means it.
    await drawn(bench, settings(), **chained(CROP, SafetyStep("")))
    job = bench.pool.works[-1]
    assert (job.policy, job.judged) == (None, True)
    assert job.steps[-1] == SafetyStep("", bench.guard.policy)
    await drawn(bench, settings(), **chained(SafetyStep(""), CROP))
    assert bench.pool.works[-1].policy == bench.guard.policy


async def test_steps_of_generations_are_counted(bench: Bench) -> None:
    bench.guard.others["mild"] = mild(BLOCK)
    bench.pool.score = 0.9
    await drawn(bench, settings(), **chained(CROP, MILD))
    assert {each.postprocessor_id: each.times.count for each in bench.steps.describe("")} == {
        "crop": 2,
        "safety": 2,
    }
    bench.pool.breaking = ValueError("no")  # in the middle of the first picture's last step
    with pytest.raises(SessionFailed):
        await drawn(bench, settings(), **chained(CROP, MILD))
    told = {
        one.postprocessor_id: (one.times.count, one.failed) for one in bench.steps.describe("")
    }
    assert told == {"crop": (3, 0), "safety": (2, 1)}


async def test_a_step_whose_policy_is_not_there_is_refused(bench: Bench) -> None:
    for step in (MILD, SafetyStep("")):
        with pytest.raises(NotFound) as refused:
            await drawn(bench, settings(), **chained(CROP, step))
        assert refused.value.reason is Reason.POLICY_NOT_FOUND
        assert "postprocessing[1].safety.policy_id" in refused.value.message
    assert bench.pool.works == []


async def test_a_named_policy_takes_previews_and_demands_its_marks(bench: Bench) -> None:
    mark = PictureMarks(watermark=True)
    bench.guard.others["mild"] = mild(marks=mark)
    plain = replace(
        request(settings(), **chained(CropStep(0, 0, 256, 256))),
        delivery=Delivery(previews=PreviewSettings(1)),
    )
    judged = replace(plain, chain=AskedChain((*plain.chain.steps, MILD)))
    for wanted, every, marked in ((plain, 1, False), (judged, 0, True)):
        bench.pool.failure = Cancelled("that is all")  # no picture here bears a mark
        with contextlib.suppress(SessionCancelled):
            [event async for event in bench.run(wanted)]
        job = bench.pool.works[-1]
        assert (job.previews.every_steps, job.mark_key is not None) == (every, marked)


async def test_pictures_are_not_judged_without_a_classifier(bench: Bench) -> None:
    bench.guard.installed.clear()
    bench.guard.policy = policy(WORDS)
    await drawn(bench, settings())  # needs none
    bench.guard.policy = policy(DRAWN)
    with pytest.raises(NotFound) as refused:
        await drawn(bench, settings())
    assert refused.value.reason is Reason.POSTPROCESSOR_NOT_FOUND
    assert "pip install device-operations[safety]" in refused.value.message
    assert len(bench.pool.works) == 1


async def test_a_session_goes_by_a_policy_until_it_ends(bench: Bench) -> None:
    bench.guard.policy = policy(WORDS)
    events = await drawn(bench, settings())
    session = bench.sessions.get(events[0].session_id)
    assert session.about.policies == ("boss/house",)
