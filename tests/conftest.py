"""Shared over all tests: one real server process with the demo model."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from server.worker.child.environment import settle_environment
from tests import order, tiers
from tests.processors import share_processors
from tests.running import RunningServer, start_server
from tests.tiers import Tier

# A quarter of the time that collecting takes would go to looks for garbage among what stays.
gc.disable()
# Tests of the engine run in this process, in the environment of a worker.
settle_environment()
share_processors()
# What a shell starts in the background ignores Ctrl-C, and so do its children: tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32":  # and under nohup also the end of the terminal
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--tier`: which tests run; see `tests/tiers.py`."""
    parser.addoption("--tier", choices=[tier.value for tier in Tier], default=Tier.ALL.value)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the promise that the quick tests do without torch."""
    if Tier(config.getoption("tier")) is Tier.QUICK:
        sys.modules["torch"] = None  # type: ignore[assignment]  # importing it fails


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even read files of other tiers: some of them import for seconds."""
    path = collection_path.relative_to(config.rootpath).as_posix()
    if collection_path.is_dir():
        quick = config.getoption("tier") == Tier.QUICK.value
        return True if quick and tiers.needs_torch(f"{path}/") else None
    if not collection_path.name.startswith("test_"):
        return None
    tier = Tier(config.getoption("tier"))
    if tier in (Tier.DEMONSTRATIONS, Tier.MATRIX):
        # Single tests of any file may be marked, in its own words.
        return None if tiers.belongs(path, tier) or tiers.marks(collection_path) else True
    return None if tiers.belongs(path, tier) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not of the tier, and put files in their order."""
    files = {
        path: path.relative_to(config.rootpath).as_posix()
        for path in {item.path for item in items}
    }
    tiers.select(config, items, files)
    places = {file: at for at, file in enumerate(order.arranged(files.values()))}
    items.sort(key=lambda item: places[files[item.path]])


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported by now stays: collecting garbage looks through it no more, which would
    take half a second each time."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A real server with a real worker; tests must leave it as they found it."""
    with start_server(tmp_path_factory.mktemp("server")) as running:
        yield running
