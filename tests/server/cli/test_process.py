"""The command line as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deviceops.v1 import sampling_pb2
from server.cli.choices import SCHEDULERS, offered
from server.cli.serving import announcement
from server.config import Settings
from tests.server.cli.messages import png, sha256, whole
from tests.server.cli.scripted import ScriptedServer

ROOT = Path(__file__).parents[3]


def _run(*arguments: str, code: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "server.cli"]
    return subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=ROOT,
        env={
            **os.environ,  # noqa: TID251
            "PYTHONPATH": f"{ROOT}:{ROOT / 'generated/python'}",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_answers_at_once_and_lists_every_command() -> None:
    """Under half a second of processor time, whatever else this machine does."""
    before = os.times()
    done = _run("--help")
    after = os.times()

    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    assert done.returncode == 0
    assert spent < 0.5
    for command in ("serve", "generate", "devices", "models", "sessions", "doctor"):
        assert f"  {command} " in done.stdout
    assert "130 cancelled" in done.stdout


def test_help_names_every_scheduler_of_the_contract() -> None:
    """Also those that have come since."""
    done = _run("generate", "--help")

    shown = " ".join(done.stdout.split())
    names = offered(sampling_pb2.Scheduler, "SCHEDULER_", SCHEDULERS)
    assert f"{', '.join(names)}; or the contract's name." in shown


def test_help_imports_nothing_heavy_and_no_command_imports_torch(own_settings: Path) -> None:
    """Neither torch nor grpc, pydantic or rich for help; torch never."""
    heavy = ("torch", "diffusers", "grpc", "google.protobuf", "pydantic", "rich", "PIL")
    code = (
        "import sys\n"
        "from server.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        f"print('LOADED', [m for m in {heavy!r} if m in sys.modules])"
    )
    assert _run("--help", code=code).stdout.endswith("LOADED []\n")

    import_all = (
        "import importlib, pkgutil, sys, server.cli\n"
        "for m in pkgutil.walk_packages(server.cli.__path__, 'server.cli.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "print('server.cli.commands.generate' in sys.modules, 'torch' in sys.modules)"
    )
    assert _run(code=import_all).stdout == "True False\n"


def test_a_picture_by_a_real_process(
    scripted: ScriptedServer, own_settings: Path, tmp_path: Path
) -> None:
    """From prompt to file, JSON on stdout and nothing on stderr."""
    data = png()
    scripted.on_generate = lambda request, context: whole(data)

    done = _run("--server", scripted.address, "generate", "x", "--json", "-o", str(tmp_path))

    summary = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert sha256(Path(summary["pictures"][0]["path"]).read_bytes()) == sha256(data)


def test_names_that_the_outputs_encoding_lacks_lose_no_picture(
    scripted: ScriptedServer, own_settings: Path, tmp_path: Path
) -> None:
    """As a program on Windows reads it, where a pipe has the code page of the machine."""
    data = png()
    scripted.on_generate = lambda request, context: whole(data)
    folder = tmp_path / "\N{CJK UNIFIED IDEOGRAPH-753B}"
    where = ("--server", scripted.address)

    done = _run(*where, "generate", "x", "-o", str(folder), PYTHONIOENCODING="cp1252")

    assert done.returncode == 0, done.stderr
    [picture] = folder.iterdir()
    assert picture.read_bytes() == data
    assert f"\\u753b{os.sep}{picture.name}" in done.stdout


def test_a_reader_that_goes_away_ends_the_command_quietly(
    scripted: ScriptedServer, own_settings: Path, tmp_path: Path
) -> None:
    """As `deviceops ... --json | head -1` does."""
    scripted.on_generate = lambda request, context: whole(png())
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as broken:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "server.cli", "--server", scripted.address),
                *("generate", "x", "--json", "-o", str(tmp_path)),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'generated/python'}"},  # noqa: TID251
            stdout=broken,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode != 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("serve", "--port", "70000"), ("serve", "--host", "0.0.0.0")]
)
def test_serve_with_wrong_settings_says_which(
    arguments: tuple[str, ...], own_settings: Path
) -> None:
    """Exit code 2 before anything is bound."""
    done = _run(*arguments)

    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert arguments[1].strip("-") in done.stderr
    assert "Traceback" not in done.stderr


def test_the_line_at_the_terminal_says_where_and_how(settings: Settings) -> None:
    """Address, token file and a first picture."""
    line = announcement(settings, "127.0.0.1:5001")

    assert "127.0.0.1:5001" in line
    assert str(settings.token_path) in line
    assert "deviceops generate" in line
    assert "\n" not in line
    assert "no token needed" in announcement(settings.model_copy(update={"auth": False}), "x:1")
