"""What is put off is imported when it is used, and gives what it gives otherwise."""

from __future__ import annotations

import sys

import pytest

from domains.inference.backends.at_first_use import put_off


def test_what_is_imported_already_stays() -> None:
    put_off("scipy")
    assert sys.modules["scipy"].__name__ == "scipy"
    assert sys.modules["scipy"].__spec__ is not None


def test_an_unknown_name_is_told_as_the_module_tells_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    put_off("colorsys")
    with pytest.raises(AttributeError, match="colorsys"):
        sys.modules["colorsys"].nothing  # noqa: B018
    assert sys.modules["colorsys"].rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)
