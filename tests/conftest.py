"""Shared over all tests: one real server process with the demo model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import RunningServer, start_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A real server with a real worker; tests must leave it as they found it."""
    with start_server(tmp_path_factory.mktemp("server")) as running:
        yield running
