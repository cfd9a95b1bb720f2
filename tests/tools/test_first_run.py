"""`make run`: a picture first, then a server that Ctrl-C ends well."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
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


def _read_until(read: Callable[[], bytes], words: str) -> str:
    """What a process says up to and with the words, or up to its end."""
    said = b""
    while words.encode() not in said and (more := read()):
        said += more
    return said.decode("utf-8", "replace")


def test_draws_a_picture_explains_itself_and_ends_well(
    command: list[str], tmp_path: Path
) -> None:
    """The picture lies in the folder before the guide is shown; SIGINT gives 0."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
    )
    assert process.stdout is not None
    with process, process.stdout as output:
        said = _read_until(lambda: os.read(output.fileno(), 4096), LAST_LINE)
        pictures = list((tmp_path / "out").glob("*.png"))
        process.send_signal(signal.SIGINT)
        said += output.read().decode("utf-8", "replace")
        code = process.wait()

    assert code == 0, said
    assert [picture.read_bytes()[:4] for picture in pictures] == [b"\x89PNG"], said
    token_file = tmp_path / "data" / "runtime" / "token"
    assert f"$(cat '{token_file}')" in said
    assert not (tmp_path / "data" / "runtime" / "server.json").exists()


def test_ctrl_c_in_a_terminal_is_no_failure_of_make(command: list[str], tmp_path: Path) -> None:
    """make is in the terminal's foreground group too, and would die of the same Ctrl-C."""
    quoted = " ".join(f"'{word}'" for word in command)
    (tmp_path / "Makefile").write_text(f"run:\n\t@exec {quoted}\n", "utf-8")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvp("make", ["make", "--file", str(tmp_path / "Makefile"), "run"])

    said = _read_until(lambda: _of_terminal(terminal), LAST_LINE)
    os.write(terminal, b"\x03")
    said += _read_until(lambda: _of_terminal(terminal), "\0")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 0, said
    assert "***" not in said


def test_a_server_that_cannot_start_is_a_failure(command: list[str], tmp_path: Path) -> None:
    """Its own exit code comes through, and no picture is tried."""
    folder = tmp_path / "data"
    folder.write_text("a file where the data folder should be", "utf-8")

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 2, done.stdout + done.stderr
    assert "ended before it answered" in done.stderr
    assert not (tmp_path / "out").exists()


def _of_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the last process of the terminal has ended
        return b""
