"""Paging of lists: opaque tokens that are good for one list and one filter."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from domains.errors import FieldViolation, InvalidArgument, Reason

MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 100

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page, the token of the next (empty on the last), and the count of all pages."""

    items: tuple[T, ...]
    next_page_token: str
    total_count: int


def paginate(items: Sequence[T], *, page_size: int, page_token: str, scope: str) -> Page[T]:
    """Cut one page out of a list.

    Args:
        items: The whole list, in its order.
        page_size: Entries wanted, 0 to 1000; 0 means 100.
        page_token: Empty, or the `next_page_token` of the page before.
        scope: What the list is of and how it is filtered; a token of another scope is
            refused, since its position would mean something else.

    Raises:
        InvalidArgument: FIELD_OUT_OF_RANGE for the size, PAGE_TOKEN_INVALID.
    """
    if not 0 <= page_size <= MAX_PAGE_SIZE:
        raise _invalid(
            "page_size", Reason.FIELD_OUT_OF_RANGE, f"Must be from 0 to {MAX_PAGE_SIZE}."
        )
    start = _position(page_token, scope) if page_token else 0
    end = start + (page_size or DEFAULT_PAGE_SIZE)
    token = _token(end, scope) if end < len(items) else ""
    return Page(tuple(items[start:end]), token, len(items))


def _mark(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()[:16]


def _token(position: int, scope: str) -> str:
    return base64.urlsafe_b64encode(f"{position}:{_mark(scope)}".encode()).decode()


def _position(token: str, scope: str) -> int:
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii")
        position, mark = text.split(":")
        if mark == _mark(scope) and position.isascii() and position.isdigit():
            return int(position[:12])
    except (ValueError, binascii.Error):
        pass
    raise _invalid(
        "page_token",
        Reason.PAGE_TOKEN_INVALID,
        "Must be empty or the next_page_token of the same list with the same filter.",
    )


def _invalid(field: str, reason: Reason, rule: str) -> InvalidArgument:
    return InvalidArgument.of(FieldViolation(field, reason, rule))
