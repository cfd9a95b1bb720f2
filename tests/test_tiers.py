"""The quick tests are quick: each of them can be collected where there is no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_quick_tests_need_no_torch() -> None:
    command = (
        "-m",
        "pytest",
        "--tier",
        "quick",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
    )
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, "\n".join(done.stdout.splitlines()[-40:])
