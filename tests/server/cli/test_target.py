"""Which server the command line speaks to, and with which token."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.cli.failures import CallFailed
from server.cli.target import ServerOptions, resolve

ENVIRONMENTS, FILES, FLAGS = "e" * 43, "f" * 43, "g" * 43


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICEOPS_TOKEN", ENVIRONMENTS)


def test_a_token_that_an_option_names_wins_over_the_environments(tmp_path: Path) -> None:
    """Which may be for another server, and more than that one is to know."""
    file = tmp_path / "token"
    file.write_text(FILES)
    file.chmod(0o600)
    server = "127.0.0.1:1"
    assert resolve(ServerOptions(server=server)).token == ENVIRONMENTS
    assert resolve(ServerOptions(server=server, token_file=file)).token == FILES
    assert resolve(ServerOptions(server=server, token=FLAGS)).token == FLAGS
    with pytest.raises(CallFailed):
        resolve(ServerOptions(server=server, token_file=tmp_path / "none"))
