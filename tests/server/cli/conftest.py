"""Fixtures of the command line's tests: a scripted server, and settings of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.testing
from typer.testing import CliRunner, Result

from server.cli.app import app
from tests.server.cli.scripted import ScriptedServer

Run = Callable[..., Result]


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No setting of this machine counts; returns the runtime folder."""
    (tmp_path / "config.toml").touch()
    monkeypatch.setenv("DEVICEOPS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("DEVICEOPS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DEVICEOPS_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir()
    return tmp_path / "runtime"


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A running scripted server."""
    server = ScriptedServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def made_once() -> Iterator[None]:
    """Typer makes all commands anew for each call, which takes longer than most calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", cache(typer.main.get_command))
        yield


@pytest.fixture
def deviceops(own_settings: Path, made_once: None) -> Run:
    """Runs the command line in this process, without a terminal."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def against(deviceops: Run, scripted: ScriptedServer) -> Run:
    """The same, speaking to the scripted server."""

    def run(*arguments: object) -> Result:
        return deviceops("--server", scripted.address, *arguments)

    return run
