"""Paging of lists: opaque tokens that are good for one list and one filter.

A page ends by count and by bytes: an answer that outgrows what clients accept would fail
for everybody who asks for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import operator
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from domains.errors import FieldViolation, InvalidArgument, Reason

MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_BYTES = 4 * 2**20 - 2**18
"""Most bytes of a page's items: a message of the contract, less what else an answer holds."""
_BYTES_AROUND = 8  # tag and length of an item in its answer, at most


class Message(Protocol):
    """What goes into an answer."""

    def ByteSize(self) -> int:
        """Its bytes on the wire."""
        ...


Place = int | tuple[int | float | str, ...]
"""What a token names: a number, or where an entry is in the order of its list."""

T = TypeVar("T")
U = TypeVar("U")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list.

    Args:
        items: Its entries.
        places: For each of them, what a token says that goes on after it.
        more: Whether entries follow.
        total_count: How many entries the whole list has.
        scope: What the list is of and how it is filtered.
    """

    items: tuple[T, ...]
    places: tuple[Place, ...]
    more: bool
    total_count: int
    scope: str

    @property
    def next_page_token(self) -> str:
        """Where the next page begins; empty on the last."""
        return _token(self.places[-1], self.scope) if self.more and self.places else ""

    def mapped(self, change: Callable[[T], U]) -> Page[U]:
        """The page with each entry as `change` makes it."""
        return Page(
            tuple(map(change, self.items)),
            self.places,
            self.more,
            self.total_count,
            self.scope,
        )

    def converted(self, to_proto: Callable[[T], M]) -> Page[M]:
        """The page as messages, cut short where they would outgrow one answer.

        It holds at least one, however large, so that the next page is another one.
        """
        messages: list[M] = []
        left = MAX_PAGE_BYTES
        for item in self.items:
            message = to_proto(item)
            left -= message.ByteSize() + _BYTES_AROUND
            if messages and left < 0:
                break
            messages.append(message)
        kept = len(messages)
        more = self.more or kept < len(self.items)
        return Page(tuple(messages), self.places[:kept], more, self.total_count, self.scope)


def paginate(items: Sequence[T], *, page_size: int, page_token: str, scope: str) -> Page[T]:
    """Cut one page out of a list that does not change in between.

    Args:
        items: The whole list, in its order.
        page_size: Entries wanted, 0 to 1000; 0 means 100.
        page_token: Empty, or the `next_page_token` of the page before.
        scope: What the list is of and how it is filtered; a token of another scope is
            refused, since its position would mean something else.

    Raises:
        InvalidArgument: FIELD_OUT_OF_RANGE for the size, PAGE_TOKEN_INVALID.
    """
    size = checked_size(page_size)
    start = _position(page_token, scope) if page_token else 0
    return _page(items, range(1, len(items) + 1), start, size, scope)


def paginate_newest_first(
    items: Sequence[T],
    number: Callable[[T], int],
    *,
    page_size: int,
    page_token: str,
    scope: str,
) -> Page[T]:
    """Cut one page out of a list that grows at its beginning.

    A token names the last entry of its page: the next page begins with the one after that,
    whatever came or went meanwhile.

    Args:
        items: The whole list, newest first.
        number: An entry's number, which falls along the list and is never given again.
        page_size: As for `paginate`, and what follows too.
        page_token: As there.
        scope: As there.

    Raises:
        InvalidArgument: As there.
    """
    size = checked_size(page_size)
    numbers = [number(item) for item in items]
    start = 0
    if page_token:
        start = bisect_right(numbers, -_position(page_token, scope), key=operator.neg)
    return _page(items, numbers, start, size, scope)


def paginate_growing(
    items: Sequence[T],
    accepts: Callable[[T], bool],
    *,
    page_size: int,
    page_token: str,
    scope: str,
) -> Page[T]:
    """Cut one page out of a list that grows at its end and loses nothing.

    Only as much of the list is looked at as makes the page: `total_count` is how many entries
    it has, those included that are left out.

    Args:
        items: The whole list, in its order.
        accepts: Whether an entry is shown.
        page_size: As for `paginate`, and what follows too.
        page_token: As there.
        scope: As there.

    Raises:
        InvalidArgument: As there.
    """
    size = checked_size(page_size)
    start = _position(page_token, scope) if page_token else 0
    found: list[T] = []
    places: list[Place] = []
    for position in range(start, len(items)):
        if not accepts(items[position]):
            continue
        if len(found) == size:
            return Page(tuple(found), tuple(places), True, len(items), scope)
        found.append(items[position])
        places.append(position + 1)
    return Page(tuple(found), tuple(places), False, len(items), scope)


def paginate_reordered(
    items: Sequence[T],
    number: Callable[[T], int],
    *,
    page_size: int,
    page_token: str,
    scope: str,
) -> Page[T]:
    """Cut one page out of a list whose order may change, a queue.

    A token names the last entry of its page: the next page begins with the one that now
    follows it, and at the beginning when it is not in the list any more.

    Args:
        items: The whole list, in its order.
        number: An entry's number, which is never given again.
        page_size: As for `paginate`, and what follows too.
        page_token: As there.
        scope: As there.

    Raises:
        InvalidArgument: As there.
    """
    size = checked_size(page_size)
    numbers = [number(item) for item in items]
    last = _position(page_token, scope) if page_token else None
    start = numbers.index(last) + 1 if last in numbers else 0
    return _page(items, numbers, start, size, scope)


def paginate_ordered(
    items: Iterable[T],
    key: Callable[[T], tuple[int | float | str, ...]],
    *,
    page_size: int,
    page_token: str,
    scope: str,
) -> Page[T]:
    """Put a list in order and cut one page out of it.

    A token names the last entry of its page: the next page begins with what comes after it
    in the order, whatever came or went meanwhile, that entry included.

    Args:
        items: The whole list, in any order.
        key: What it is ordered by, of the same form for all and different for each.
        page_size: As for `paginate`, and what follows too.
        page_token: As there.
        scope: As there.

    Raises:
        InvalidArgument: As there.
    """
    size = checked_size(page_size)
    listed = sorted(items, key=key)
    keys = [key(item) for item in listed]
    start = 0
    if page_token:
        try:
            start = bisect_right(keys, _key(page_token, scope))
        except TypeError:  # the key of another list, and not one of ours
            raise _refused() from None
    return _page(listed, keys, start, size, scope)


def checked_size(page_size: int) -> int:
    """How many entries a page of that `page_size` has at most.

    Raises:
        InvalidArgument: FIELD_OUT_OF_RANGE.
    """
    if not 0 <= page_size <= MAX_PAGE_SIZE:
        raise _invalid(
            "page_size", Reason.FIELD_OUT_OF_RANGE, f"Must be from 0 to {MAX_PAGE_SIZE}."
        )
    return page_size or DEFAULT_PAGE_SIZE


def _page(
    items: Sequence[T], places: Sequence[Place], start: int, size: int, scope: str
) -> Page[T]:
    end = start + size
    return Page(
        tuple(items[start:end]),
        tuple(places[start:end]),
        end < len(items),
        len(items),
        scope,
    )


def _mark(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()[:16]


def _token(place: Place, scope: str) -> str:
    named = json.dumps(place, separators=(",", ":"))
    return base64.urlsafe_b64encode(f"{_mark(scope)}:{named}".encode()).decode()


def _position(token: str, scope: str) -> int:
    place = _place(token, scope)
    if isinstance(place, int) and 0 <= place < 1 << 63:
        return place
    raise _refused()


def _key(token: str, scope: str) -> tuple[int | float | str, ...]:
    place = _place(token, scope)
    if isinstance(place, list) and all(isinstance(part, int | float | str) for part in place):
        return tuple(place)
    raise _refused()


def _place(token: str, scope: str) -> object:
    """What a token of this scope names."""
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii")
        mark, _, named = text.partition(":")
        if mark == _mark(scope):
            return json.loads(named)
    except (ValueError, RecursionError, binascii.Error):
        pass
    raise _refused()


def _refused() -> InvalidArgument:
    return _invalid(
        "page_token",
        Reason.PAGE_TOKEN_INVALID,
        "Must be empty or the next_page_token of the same list with the same filter.",
    )


def _invalid(field: str, reason: Reason, rule: str) -> InvalidArgument:
    return InvalidArgument.of(FieldViolation(field, reason, rule))
