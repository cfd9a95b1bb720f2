"""The version that the program says it has."""

from __future__ import annotations

from importlib import metadata

import pytest

from server import version


def test_it_is_the_installed_one() -> None:
    assert version.own_version() == metadata.version("device-operations")


def test_running_from_sources_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)

    assert version.own_version() == version.FROM_SOURCES
