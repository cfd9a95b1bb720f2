"""The shared server with models of a test file's own, which it makes in a fixture `root`.

A server of each file's own would spend longer on its start than most files on their tests.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.catalogue import Catalogue
from tests.running import Client, RunningServer


@pytest.fixture(scope="module")
def models(server: RunningServer) -> Iterator[Path]:
    """Where the shared server's own models lie; what a file puts there goes with it."""
    folder = server.data_dir / "models"
    yield folder
    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    with Catalogue(server) as catalogue:
        catalogue.forget_all()
        catalogue.refresh()


@pytest.fixture(scope="module")
def running(server: RunningServer, root: Path) -> RunningServer:
    """The shared server, which has found what the file put there."""
    assert root == server.data_dir / "models"
    with Catalogue(server) as catalogue:
        catalogue.refresh()
    return server


@pytest.fixture
async def client(running: RunningServer) -> AsyncIterator[Client]:
    async with asyncio.timeout(300), running.client() as connected:
        yield connected
