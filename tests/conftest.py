"""Shared over all tests: one real server process with the demo model."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

from server.worker.child.environment import settle_environment
from tests.running import RunningServer, start_server

# Tests of the engine run in this process, in the environment of a worker.
settle_environment()
# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A real server with a real worker; tests must leave it as they found it."""
    with start_server(tmp_path_factory.mktemp("server")) as running:
        yield running
