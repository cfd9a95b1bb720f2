"""What was made a short while ago is made once."""

from __future__ import annotations

import pytest

from domains.inference.backends.recent import Recent


def test_the_same_content_is_made_once_and_the_oldest_is_forgotten() -> None:
    recent: Recent[dict[str, int], int] = Recent(2)
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number

    for number in (1, 1, 2, 1, 3, 2):
        assert recent.get({"a": number}, lambda number=number: make(number)) == number  # type: ignore[misc]
    assert made == [1, 2, 3, 2]


def test_what_fails_is_not_kept() -> None:
    recent: Recent[str, int] = Recent(2)

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        recent.get("a", fail)
    assert recent.get("a", lambda: 5) == 5
