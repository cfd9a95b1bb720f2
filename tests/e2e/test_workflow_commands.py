"""The commands that the page about workflows shows, run as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from domains.processing.workflows.convert.ready import ready_made
from tests.domains.chain.photograph import PATH as PHOTOGRAPH
from tests.running import RunningServer

PAGE = (Path(__file__).parents[2] / "docs/workflows.md").read_text("utf-8")
SHOWN = re.search(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
assert SHOWN is not None
COMMANDS = SHOWN[1].splitlines()


def command(server: RunningServer, folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """A line of the page, for the server of tests."""
    program, *words = shlex.split(line)
    if program.endswith("deviceops"):
        where = ("--server", server.address, "--token", server.token)
        words = ["-m", "server.cli", *where, *words]
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={"PYTHONPATH": f"{root}:{root}/generated/python", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_each_that_runs_is_shown() -> None:
    run = {line.split()[3] for line in COMMANDS if "workflow run" in line}
    assert run == {each.workflow_id for each in ready_made()}


def test_what_is_shown_runs(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "photo.webp").write_bytes(PHOTOGRAPH.read_bytes())
    for line in COMMANDS:
        done = command(server, tmp_path, line)
        assert done.returncode == 0, (line, done.stderr)
        if "generate-and-upscale" in line:  # its tiles are no steps
            assert "2 steps, 1 picture in" in done.stderr
        for path in done.stdout.splitlines():
            assert (tmp_path / path).stat().st_size > 1000, line
    assert {"apple.png", "large.png"} <= {each.name for each in tmp_path.iterdir()}
    assert len([*(tmp_path / "out").iterdir()]) == 2 + 4 + 2 + 1 + 1 + 1


def test_a_workflow_is_stored_and_changed_from_files(
    server: RunningServer, tmp_path: Path
) -> None:
    def run(words: str) -> subprocess.CompletedProcess[str]:
        return command(server, tmp_path, f"deviceops workflow {words}")

    text = run("show basic-image-generation --textproto").stdout
    (tmp_path / "mine.textproto").write_text(text.replace("basic-image", "my-image"))
    assert run("create mine.textproto").stdout == "Stored my-image-generation, version 1.\n"
    told = json.loads(run("show my-image-generation --json").stdout)
    for field in ("version", "create_time", "owner", "built_in"):
        del told[field]
    (tmp_path / "mine.json").write_text(json.dumps(told))
    assert run("update mine.json").stdout == "Stored my-image-generation, version 2.\n"
    refused = run("update mine.json --version 1")
    assert (refused.returncode, "version 2 by now" in refused.stderr) == (1, True)
    assert "my-image-generation" in run("list --owner default").stdout
    assert run("delete my-image-generation").returncode == 0
    assert run("run my-image-generation").returncode == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run second-pass --set propmt=x", "the workflow has the parameters prompt"),
        ("run second-pass --set prompt", "write NAME=VALUE"),
        ("run second-pass --set steps=many", "must be of the kind integer"),
        ("run image-variations --set image=x", "give them with --image image="),
        ("run image-variations --image prompt=x", "takes no pictures"),
        ("run image-variations --image image=nothing.png", "cannot be read"),
        ("run missing.json", "cannot be read"),
        ("create bad.textproto", "is no workflow"),
        ("run image-variations", "arguments['image']"),
    ],
)
def test_what_cannot_work_is_said_in_words(
    server: RunningServer, tmp_path: Path, words: str, said: str
) -> None:
    (tmp_path / "bad.textproto").write_text("steps { what: 1 }")
    done = command(server, tmp_path, f"deviceops workflow {words}")
    assert done.returncode == 2
    assert said in done.stdout + done.stderr
