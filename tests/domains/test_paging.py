"""Pages end by count and by bytes, and following their tokens gives the whole list."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceops.v1 import processing_pb2, session_pb2
from domains.errors import InvalidArgument, Reason
from domains.limits import LIMITS
from domains.paging import MAX_PAGE_SIZE, Page, paginate, paginate_ordered

MESSAGE_BYTES = 4 * 2**20  # what the contract promises, and what clients accept
MIB = 2**20


def to_proto(size: int) -> session_pb2.Session:
    """An item that is so large."""
    return session_pb2.Session(session_id="x" * size)


def answer(page: Page[session_pb2.Session]) -> processing_pb2.ListSessionsResponse:
    return processing_pb2.ListSessionsResponse(
        sessions=page.items, next_page_token=page.next_page_token
    )


def pages(sizes: Sequence[int], page_size: int) -> Iterator[Page[session_pb2.Session]]:
    """The pages of a list whose items are so large, as a client follows them."""
    token = ""
    while True:
        page = paginate(sizes, page_size=page_size, page_token=token, scope="s")
        yield (converted := page.converted(to_proto))
        token = converted.next_page_token
        if not token:
            return


@given(
    st.lists(st.integers(0, 3) | st.integers(0, 2 * MIB) | st.just(3 * MIB), max_size=12),
    st.integers(0, 5),
)
def test_no_page_outgrows_a_message_and_none_loses_an_item(
    sizes: list[int], page_size: int
) -> None:
    seen: list[int] = []
    for page in pages(sizes, page_size):
        assert answer(page).ByteSize() < MESSAGE_BYTES
        assert len(page.items) <= (page_size or 100)
        assert page.items or not sizes
        assert page.total_count == len(sizes)
        seen += [len(item.session_id) for item in page.items]
    assert seen == sizes


def test_a_page_is_as_full_as_its_bytes_allow() -> None:
    counts = [len(page.items) for page in pages([MIB // 4] * 40, 0)]

    assert counts == [14, 14, 12]


def test_very_many_small_items_are_counted_with_what_stands_around_them() -> None:
    (page,) = pages([0] * MAX_PAGE_SIZE, MAX_PAGE_SIZE)

    assert len(page.items) == MAX_PAGE_SIZE


def test_an_item_too_large_for_any_page_comes_alone() -> None:
    """The list can still be followed past it."""
    counts = [len(page.items) for page in pages([1, 5 * MIB, 1], 0)]

    assert counts == [1, 1, 1]


def test_only_what_fits_is_converted() -> None:
    converted: list[int] = []

    def counting(size: int) -> session_pb2.Session:
        converted.append(size)
        return to_proto(size)

    page = paginate([2 * MIB] * 50, page_size=0, page_token="", scope="s")
    page.converted(counting)

    assert len(converted) == 2


@pytest.mark.parametrize("size", [-1, MAX_PAGE_SIZE + 1])
def test_a_page_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        paginate([1], page_size=size, page_token="", scope="s")
    assert refusal.value.reason is Reason.FIELD_OUT_OF_RANGE


@pytest.mark.parametrize("token", ["?", "MA==", "LTE6YWFhYQ==", "\x00"])
def test_a_token_that_no_page_gave_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        paginate([1], page_size=0, page_token=token, scope="s")
    assert refusal.value.reason is Reason.PAGE_TOKEN_INVALID


def test_a_token_of_another_filter_is_refused() -> None:
    first = paginate([1, 2], page_size=1, page_token="", scope="one")

    with pytest.raises(InvalidArgument):
        paginate([1, 2], page_size=1, page_token=first.next_page_token, scope="two")


def test_the_sizes_are_those_of_the_contract() -> None:
    limit = LIMITS["ListSessionsRequest.page_size"]
    assert limit.maximum == MAX_PAGE_SIZE


# Lists that are ordered by what their entries are.

NAMES = st.tuples(st.integers(-3, 3), st.text(max_size=3), st.floats(-2, 2))


@given(st.sets(NAMES, max_size=12), st.sets(NAMES, max_size=12), st.integers(1, 4))
def test_an_ordered_list_repeats_and_loses_nothing_that_stays(
    before: set[tuple[int, str, float]], after: set[tuple[int, str, float]], size: int
) -> None:
    """Other entries come and go between any two pages."""
    seen: list[tuple[int, str, float]] = []
    token, listed = "", before
    while True:
        page = paginate_ordered(
            listed, lambda name: name, page_size=size, page_token=token, scope="s"
        )
        seen += page.items
        token, listed = page.next_page_token, after if listed is before else before
        if not token:
            break
    assert seen == sorted(set(seen))
    assert before & after <= set(seen)


@pytest.mark.parametrize("order", [(1,), ("a",), (1.5, "b")])
def test_a_place_in_another_order_is_refused(order: tuple[int | float | str, ...]) -> None:
    """Somebody may make a token by their own."""
    token = paginate_ordered(
        [order, (*order, 1)], lambda key: key, page_size=1, page_token="", scope="s"
    ).next_page_token
    assert token
    other: list[tuple[int | float | str, ...]] = [("x",)] if order[0] != "a" else [(1,)]
    with pytest.raises(InvalidArgument) as refused:
        paginate_ordered(other, lambda key: key, page_size=1, page_token=token, scope="s")
    assert refused.value.reason is Reason.PAGE_TOKEN_INVALID


@pytest.mark.parametrize(
    "named", ["1", "null", "[[1]]", "[null]", "{}", "[", "1e999", "[" * 9999]
)
def test_a_token_that_names_no_place_is_refused(named: str) -> None:
    mark = hashlib.sha256(b"s").hexdigest()[:16]
    token = base64.urlsafe_b64encode(f"{mark}:{named}".encode()).decode()
    with pytest.raises(InvalidArgument) as refused:
        paginate_ordered([(1,)], lambda key: key, page_size=1, page_token=token, scope="s")
    assert refused.value.reason is Reason.PAGE_TOKEN_INVALID
