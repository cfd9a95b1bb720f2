"""`make run`: a picture first, then a server that Ctrl-C ends well."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAST_LINE = "Ctrl-C stops the server"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The tool with a server of its own on free ports."""
    return [
        *(sys.executable, str(ROOT / "tools" / "first_run.py")),
        *("--data-dir", str(tmp_path / "data"), "--output", str(tmp_path / "out")),
        *("--port", "0", "--metrics-port", "0"),
    ]


def test_draws_a_picture_and_ctrl_c_in_the_terminal_is_no_failure(
    command: list[str], tmp_path: Path
) -> None:
    """As with `make run`: make is in the terminal's foreground group too, and would die of
    the same Ctrl-C. The picture lies in its folder before the guide is shown.
    """
    quoted = " ".join(f"'{word}'" for word in command)
    (tmp_path / "Makefile").write_text(f"run:\n\t@exec {quoted}\n", "utf-8")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvp("make", ["make", "--file", str(tmp_path / "Makefile"), "run"])

    said = _read_until(terminal, LAST_LINE)
    pictures = list((tmp_path / "out").glob("*.png"))
    os.write(terminal, b"\x03")
    said += _read_until(terminal, None)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 0, said
    assert "***" not in said
    assert [picture.read_bytes()[:4] for picture in pictures] == [b"\x89PNG"], said
    assert f"$(cat '{tmp_path / 'data' / 'runtime' / 'token'}')" in said
    assert not (tmp_path / "data" / "runtime" / "server.json").exists()


def test_a_server_that_cannot_start_is_a_failure(command: list[str], tmp_path: Path) -> None:
    """Its own exit code comes through, and no picture is tried."""
    folder = tmp_path / "data"
    folder.write_text("a file where the data folder should be", "utf-8")

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 2, done.stdout + done.stderr
    assert "ended before it answered" in done.stderr
    assert not (tmp_path / "out").exists()


def _read_until(terminal: int, words: str | None) -> str:
    """What is said up to and with the words, or up to the end of the last process."""
    said = bytearray()
    searched = 0
    while words is None or said.find(words.encode(), searched) < 0:
        searched = max(0, len(said) - 200)
        try:
            more = os.read(terminal, 65536)
        except OSError:  # so Linux tells that nobody has the terminal open any more
            break
        if not more:
            break
        said += more
    return said.decode("utf-8", "replace")
