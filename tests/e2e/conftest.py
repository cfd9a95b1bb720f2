"""A server over models of a test file's own, which it makes in a fixture `root`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.running import Client, RunningServer, start_server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[RunningServer]:
    """A server over that folder, for the whole file."""
    data = tmp_path_factory.mktemp("data")
    with start_server(data, "--model-root", str(root), "--no-preload") as server:
        yield server


@pytest.fixture
async def client(running: RunningServer) -> AsyncIterator[Client]:
    async with asyncio.timeout(300), running.client() as connected:
        yield connected
