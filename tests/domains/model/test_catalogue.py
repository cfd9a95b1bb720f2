"""The catalogue: what is listed, found and resolved, and when the disk is looked at."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from domains.errors import DomainError, InvalidArgument, NotFound, PermissionDenied, Reason
from domains.model.core import ModelCatalogue
from domains.model.errors import (
    MaskNeeded,
    ModelNotFound,
    ModelUnusable,
    PartsBorrowed,
    VaeNeeded,
)
from domains.model.types import Architecture, Model, ModelFormat, ModelType
from domains.model.views import ModelFilter, ModelOrder
from tests.fakes.model import PICKLED, START, FakeScanner, catalogue_of, contents_of, model

ANY = ModelFilter()


class Clock:
    """A wall clock that moves when it is read."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


def catalogue(*models: Model, default: str = "") -> ModelCatalogue:
    return catalogue_of(FakeScanner(*models), default=default, clock=Clock())


async def ids(
    source: ModelCatalogue, wanted: ModelFilter = ANY, order: ModelOrder = ModelOrder.NAME
) -> list[str]:
    return [found.model_id for found in (await source.list(wanted, order=order)).items]


async def test_the_first_list_waits_for_the_first_scan_which_runs_beside_the_loop() -> None:
    scanner = FakeScanner(model("a"))
    scanner.release.clear()
    source = catalogue_of(scanner, clock=Clock())
    first, second = (asyncio.create_task(source.list(ANY)) for _ in range(2))
    await asyncio.to_thread(scanner.started.wait)
    assert not first.done()
    scanner.release.set()

    assert (await first).total_count == (await second).total_count == 1
    assert scanner.scans == 1
    assert threading.get_ident() not in scanner.threads


async def test_during_a_refresh_the_old_catalogue_answers_and_then_the_new_one() -> None:
    scanner = FakeScanner(model("old"))
    source = catalogue_of(scanner, clock=Clock())
    await source.refresh()
    scanner.models = [model("new")]
    scanner.release.clear()
    scanner.started.clear()
    refresh = asyncio.create_task(source.refresh())
    await asyncio.to_thread(scanner.started.wait)

    during = await ids(source)
    scanner.release.set()
    await refresh

    assert during == ["old"]
    assert await ids(source) == ["new"]


async def test_a_refresh_tells_what_changed() -> None:
    scanner = FakeScanner(model("a"), model("b"), problems=("One was left out.",))
    source = catalogue_of(scanner, clock=Clock())
    await source.refresh()
    scanner.models = [model("b", size_bytes=5), model("c")]

    told = await source.refresh()

    assert (told.added, told.removed, told.total_count) == (("c",), ("a",), 2)
    assert told.changed == ("b",)
    assert told.problems == ("One was left out.",)


async def test_a_scan_that_fails_is_told_and_tried_again() -> None:
    scanner = FakeScanner(model("a"))
    contents = contents_of(scanner, clock=Clock())
    source = ModelCatalogue(contents, clock=Clock())
    scan = scanner.scan
    scanner.scan = lambda **_: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(ZeroDivisionError):
        await source.list(ANY)
    await contents.close()
    scanner.scan = scan  # type: ignore[method-assign]

    assert await ids(source) == ["a"]


async def test_an_end_does_not_wait_for_a_scan_that_hangs() -> None:
    scanner = FakeScanner(model("a"))
    scanner.release.clear()
    contents = contents_of(scanner, clock=Clock())
    source = ModelCatalogue(contents, clock=Clock())
    listing = asyncio.create_task(source.list(ANY))
    await asyncio.to_thread(scanner.started.wait)

    async with asyncio.timeout(30):
        await contents.close()
        await asyncio.gather(listing, return_exceptions=True)

    assert listing.cancelled()
    assert not scanner.release.is_set()
    scanner.release.set()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ANY, ["broken", "ink", "vae", "xl"]),
        (ModelFilter(type=ModelType.LORA), ["ink"]),
        (ModelFilter(architecture=Architecture.SD1), ["ink"]),
        (ModelFilter(format=ModelFormat.PICKLE), ["broken"]),
        (ModelFilter(tags=("FUN", "ink")), ["ink"]),
        (ModelFilter(tags=("fun",)), ["ink", "xl"]),
        (ModelFilter(usable_only=True), ["ink", "vae", "xl"]),
        (ModelFilter(type=ModelType.LORA, usable_only=True, tags=("none",)), []),
    ],
)
async def test_lists_hold_what_passes_every_part_of_the_filter(
    wanted: ModelFilter, expected: list[str]
) -> None:
    source = catalogue(
        model("xl", tags=("Fun",)),
        model("ink", type=ModelType.LORA, architecture=Architecture.SD1, tags=("fun", "Ink")),
        model("vae", type=ModelType.VAE, architecture=None),
        model("broken", format=ModelFormat.PICKLE, problem=PICKLED),
    )

    assert await ids(source, wanted) == expected


async def test_lists_come_in_the_order_asked_for_and_equals_by_name() -> None:
    source = catalogue(
        model("b", days=1, size_bytes=10),
        model("C", days=3, size_bytes=10),
        model("a", days=2, size_bytes=20),
    )
    await source.refresh()
    source.record_use("C")
    source.record_use("b")

    assert await ids(source) == ["a", "b", "C"]
    assert await ids(source, order=ModelOrder.MODIFY_TIME) == ["C", "a", "b"]
    assert await ids(source, order=ModelOrder.SIZE) == ["a", "b", "C"]
    assert await ids(source, order=ModelOrder.LAST_USE) == ["b", "C", "a"]


async def test_pages_follow_each_other_and_belong_to_their_filter() -> None:
    source = catalogue(*(model(f"m{number:02}") for number in range(5)))

    first = await source.list(ANY, page_size=2)
    second = await source.list(ANY, page_size=2, page_token=first.next_page_token)
    third = await source.list(ANY, page_size=2, page_token=second.next_page_token)

    names = [m.model_id for page in (first, second, third) for m in page.items]
    assert names == ["m00", "m01", "m02", "m03", "m04"]
    assert third.next_page_token == ""
    assert first.total_count == 5
    for other in (ModelFilter(usable_only=True), ModelFilter(tags=("x",))):
        with pytest.raises(InvalidArgument) as caught:
            await source.list(other, page_token=first.next_page_token)
        assert caught.value.reason is Reason.PAGE_TOKEN_INVALID
    with pytest.raises(InvalidArgument):
        await source.list(ANY, order=ModelOrder.SIZE, page_token=first.next_page_token)


@pytest.mark.parametrize(
    ("tags", "reason", "field"),
    [
        (("x",) * 33, Reason.TOO_MANY_ELEMENTS, "tags"),
        (("ok", "y" * 65), Reason.TEXT_TOO_LONG, "tags[1]"),
        (("a\nb",), Reason.TEXT_INVALID, "tags[0]"),
    ],
)
async def test_tags_have_limits(tags: tuple[str, ...], reason: Reason, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await catalogue().list(ModelFilter(tags=tags))

    assert (caught.value.reason, caught.value.violations[0].field) == (reason, field)


async def test_a_search_finds_every_word_somewhere_and_puts_names_first() -> None:
    source = catalogue(
        model("emoji-xl", tags=("fun",), description="Draws red apples."),
        model("apple-lora", type=ModelType.LORA, trigger_words=("fun apple",)),
        model("pineapple"),
        model("other", description="No fruit."),
    )

    apples = await source.search("APPLE", ANY)
    both = await source.search("fun apple", ANY)
    loras = await source.search("apple", ModelFilter(type=ModelType.LORA))

    assert [match.model.model_id for match in apples.items] == [
        "apple-lora",
        "pineapple",
        "emoji-xl",
    ]
    scores = [match.score for match in apples.items]
    assert scores[0] == 1
    assert all(0 < score <= 1 for score in scores)
    assert [match.model.model_id for match in both.items] == ["apple-lora", "emoji-xl"]
    assert [match.model.model_id for match in loras.items] == ["apple-lora"]
    assert (await source.search("nothing-like-it", ANY)).items == ()


async def test_a_search_finds_a_model_by_the_beginning_of_its_hash() -> None:
    sha256 = "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa"
    hashes = {"ink": sha256, "other": "f" * 64, "unread": ""}
    scanner = FakeScanner(*(model(name, tags=("fun",)) for name in hashes))
    contents = contents_of(scanner, clock=Clock(), sha256_of=lambda one: hashes[one.model_id])
    source = ModelCatalogue(contents, clock=Clock())

    async def found(query: str, *tags: str) -> list[str]:
        page = await source.search(query, ModelFilter(tags=tags))
        return [match.model.model_id for match in page.items]

    for digits in (8, 10, 12, 64):
        assert await found(sha256[:digits]) == ["ink"]
    assert await found(sha256[:10].upper(), "FUN") == ["ink"]
    assert await found(sha256[:10], "none") == []
    assert await found(sha256[:7]) == []
    assert await found(sha256[1:11]) == []


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", Reason.REQUIRED_FIELD_MISSING),
        ("  ", Reason.REQUIRED_FIELD_MISSING),
        ("x" * 257, Reason.TEXT_TOO_LONG),
        ("a\x00", Reason.TEXT_INVALID),
    ],
)
async def test_a_search_needs_words(query: str, reason: Reason) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await catalogue(model("a")).search(query, ANY)

    assert caught.value.reason is reason


async def test_a_page_of_a_search_belongs_to_its_words() -> None:
    source = catalogue(model("ab"), model("abc"))
    page = await source.search("ab", ANY, page_size=1)

    rest = await source.search("ab", ANY, page_size=1, page_token=page.next_page_token)

    assert [match.model.model_id for match in rest.items] == ["abc"]
    with pytest.raises(InvalidArgument):
        await source.search("abc", ANY, page_token=page.next_page_token)


async def test_without_a_name_the_first_usable_checkpoint_is_meant() -> None:
    source = catalogue(
        model("a", problem=PICKLED),
        model("b", type=ModelType.LORA),
        model("d"),
        model("c"),
    )

    found = await source.get("")

    assert found.model_id == "c"
    assert [m.model_id for m in (await source.list(ANY)).items if m.is_default] == ["c"]


async def test_a_model_that_takes_a_mask_is_meant_only_by_its_name() -> None:
    source = catalogue(model("a", inpainting=True), model("b"))

    assert (await source.resolve("")).model_id == "b"
    assert (await source.loadable("a")).model_id == "a"
    with pytest.raises(MaskNeeded) as refused:
        await source.resolve("a")
    assert refused.value.reason is Reason.NOT_BUILT
    assert "this task has no mask yet" in refused.value.message


async def test_a_refiner_that_borrows_networks_is_not_loaded_alone() -> None:
    source = catalogue(model("a"), model("r", type=ModelType.REFINER, borrows=True))

    with pytest.raises(PartsBorrowed) as refused:
        await source.loadable("r")

    assert refused.value.reason is Reason.MODEL_INCOMPATIBLE


async def test_a_configured_default_is_meant_even_when_it_is_broken() -> None:
    source = catalogue(model("a"), model("z", problem=PICKLED), default="z")

    assert (await source.get("")).is_default
    with pytest.raises(ModelUnusable, match="It is a pickle") as caught:
        await source.resolve("")
    assert caught.value.reason is Reason.MODEL_UNSAFE_PICKLE
    assert caught.value.metadata == {"component": "all", "model_id": "z"}


async def test_a_default_that_is_not_there_is_never_replaced() -> None:
    with pytest.raises(ModelNotFound, match=r"'z'.*configured"):
        await catalogue(model("a"), default="z").get("")
    with pytest.raises(ModelNotFound, match="no usable checkpoint"):
        await catalogue(model("a", problem=PICKLED)).get("")


async def test_a_model_of_another_type_is_not_found_and_says_so() -> None:
    source = catalogue(model("ink", type=ModelType.LORA), model("what", type=None))

    with pytest.raises(ModelNotFound, match="it is a lora, and a checkpoint is needed"):
        await source.resolve("ink")
    with pytest.raises(ModelNotFound, match="unknown type"):
        await source.get("what", type=ModelType.VAE)
    assert (await source.get("ink", type=ModelType.LORA)).model_id == "ink"


async def test_a_broken_model_of_unknown_type_is_refused_with_what_is_wrong_with_it() -> None:
    source = catalogue(
        model("cut", type=None, problem=PICKLED),
        model("ink", type=ModelType.LORA, problem=PICKLED),
    )

    with pytest.raises(ModelUnusable, match="It is a pickle") as caught:
        await source.resolve("cut")
    assert caught.value.reason is Reason.MODEL_UNSAFE_PICKLE
    assert caught.value.metadata == {"component": "all", "model_id": "cut"}
    with pytest.raises(ModelNotFound, match="it is a lora"):
        await source.resolve("ink")


async def test_a_usable_model_is_resolved() -> None:
    assert (await catalogue(model("xl")).resolve("xl")).model_id == "xl"


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("nope", NotFound, Reason.MODEL_NOT_FOUND),
        ("XL", NotFound, Reason.MODEL_NOT_FOUND),
        ("https://hf.co/x/y", PermissionDenied, Reason.REMOTE_SOURCE_FORBIDDEN),
        ("http://169.254.169.254/latest", PermissionDenied, Reason.REMOTE_SOURCE_FORBIDDEN),
        ("file:///etc/passwd", PermissionDenied, Reason.REMOTE_SOURCE_FORBIDDEN),
        ("HF:owner", PermissionDenied, Reason.REMOTE_SOURCE_FORBIDDEN),
        (
            "stabilityai/stable-diffusion-xl-base-1.0",
            PermissionDenied,
            Reason.REMOTE_SOURCE_FORBIDDEN,
        ),
        ("../etc", InvalidArgument, Reason.NAME_INVALID),
        ("a/../b", InvalidArgument, Reason.NAME_INVALID),
        ("/etc/passwd", InvalidArgument, Reason.NAME_INVALID),
        ("C:evil.png", InvalidArgument, Reason.NAME_INVALID),
        ("\\\\10.0.0.5\\share\\x", InvalidArgument, Reason.NAME_INVALID),
        ("a/b/c", InvalidArgument, Reason.NAME_INVALID),
        ("NUL", InvalidArgument, Reason.NAME_INVALID),
        ("x\x00", InvalidArgument, Reason.NAME_INVALID),
        ("x" * 5000, InvalidArgument, Reason.NAME_INVALID),
    ],
)
async def test_names_that_are_no_models_are_refused_in_kind(
    name: str, kind: type[DomainError], reason: Reason
) -> None:
    with pytest.raises(kind) as caught:
        await catalogue(model("xl")).get(name)

    assert caught.value.reason is reason


async def test_a_hostile_name_is_refused_without_looking_at_the_disk() -> None:
    scanner = FakeScanner()
    with pytest.raises(InvalidArgument):
        await catalogue_of(scanner, clock=Clock()).get("../etc")

    assert scanner.scans == 0


async def test_only_usable_models_of_the_same_architecture_fit() -> None:
    lora = model("lora", type=ModelType.LORA)
    source = catalogue(
        model("xl"),
        lora,
        replace(lora, model_id="lora1", architecture=Architecture.SD1),
        replace(lora, model_id="lora2", problem=PICKLED),
        model("vae", type=ModelType.VAE),
        model("control", type=ModelType.CONTROL_NET),
        model("refiner", type=ModelType.REFINER),
        model("look", type=ModelType.IMAGE_PROMPT_ADAPTER),
        model("unknown", architecture=None),
    )

    fitting = await source.fitting(await source.get("xl"))
    nothing = await source.fitting(await source.get("unknown"))

    assert (fitting.loras, fitting.vaes) == (("lora",), ("vae",))
    assert (fitting.control_nets, fitting.refiners) == (("control",), ("refiner",))
    assert fitting.image_prompt_adapters == ("look",)
    assert nothing.loras == nothing.vaes == ()


async def test_of_very_many_that_fit_the_newest_are_told() -> None:
    models = [
        model(f"lora-{number:03}", type=ModelType.LORA, days=number) for number in range(300)
    ]
    source = catalogue(model("xl"), *models)

    fitting = await source.fitting(await source.get("xl"))

    assert fitting.loras == tuple(f"lora-{number:03}" for number in range(44, 300))


async def test_a_list_is_asked_for_what_goes_with_a_checkpoint() -> None:
    source = catalogue(
        *(model("xl"), model("other"), model("sd1", architecture=Architecture.SD1)),
        *(model("lora", type=ModelType.LORA), model("vae", type=ModelType.VAE)),
        model("old-lora", type=ModelType.LORA, architecture=Architecture.SD1),
        model("broken", type=ModelType.LORA, problem=PICKLED),
    )

    assert await ids(source, ModelFilter(goes_with="xl")) == ["lora", "vae"]
    assert await ids(source, ModelFilter(goes_with="sd1", type=ModelType.VAE)) == []
    with pytest.raises(ModelNotFound):
        await ids(source, ModelFilter(goes_with="gone"))
    with pytest.raises(InvalidArgument) as refused:
        await ids(source, ModelFilter(goes_with="../x"))
    assert refused.value.violations[0].field == "compatible_with_model_id"


# Revisions and pages.


async def test_the_revision_counts_what_changes() -> None:
    scanner = FakeScanner(model("a"), model("b"))
    source = catalogue_of(scanner, clock=Clock())
    before = source.revision
    assert before > 1_000_000_000_000_000
    await source.list(ANY)
    first = source.revision
    assert first == before + 2
    await source.refresh()
    assert source.revision == first
    scanner.models = [model("b", days=1), model("c")]
    await source.refresh()

    assert source.revision > first
    again = source.revision
    await source.refresh()
    assert source.revision == again
    assert catalogue_of(scanner, clock=Clock()).revision >= before


@pytest.mark.parametrize("order", ModelOrder)
async def test_pages_repeat_and_leave_out_nothing_whatever_comes_and_goes(
    order: ModelOrder,
) -> None:
    models = [model(f"m{number}", days=-number, size_bytes=100 - number) for number in range(6)]
    scanner = FakeScanner(*models)
    source = catalogue_of(scanner, clock=Clock())
    first = await source.list(ANY, order=order, page_size=2)
    scanner.models = [model("a", days=9, size_bytes=999), *models[:1], *models[2:]]
    await source.refresh()

    second = await source.list(ANY, order=order, page_size=10, page_token=first.next_page_token)

    assert [found.model_id for found in first.items] == ["m0", "m1"]
    assert [found.model_id for found in second.items] == ["m2", "m3", "m4", "m5"]


async def test_pages_of_a_search_go_on_after_the_last_match() -> None:
    models = [model(f"ink-{number}") for number in range(4)]
    scanner = FakeScanner(*models)
    source = catalogue_of(scanner, clock=Clock())
    first = await source.search("ink", ANY, page_size=2)
    scanner.models = [model("ink"), *models]
    await source.refresh()

    second = await source.search("ink", ANY, page_token=first.next_page_token)

    assert [m.model.model_id for m in first.items + second.items] == [
        f"ink-{number}" for number in range(4)
    ]


async def test_a_model_without_a_vae_is_for_those_who_lend_one() -> None:
    source = catalogue(model("a", lacks_vae=True), model("b"))
    assert (await source.resolve("")).model_id == "b"
    assert (await source.resolve("a", vae=True)).model_id == "a"
    assert (await source.loadable("a")).model_id == "a"
    with pytest.raises(VaeNeeded) as refused:
        await source.resolve("a")
    assert refused.value.reason is Reason.MODEL_INCOMPLETE
    assert refused.value.metadata == {"model_id": "a", "component": "vae"}
