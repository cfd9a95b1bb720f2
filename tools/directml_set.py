"""`make test-directml-set`: the libraries of DirectML's workers, installed and tested.

    python tools/directml_set.py [--venv FOLDER] [--install] [arguments of pytest]

DirectML's torch is old, and newer libraries do not bear it: they have an environment of their
own. This makes one, where it is not there yet, with what `constraints-directml.txt` says (on
Linux about 6 GB, as torch 2.4.1 comes with CUDA's libraries there), and runs the tests of the
engine and of model files in it, on the processor. Without a folder it is `.venv-directml`.
No adapter of DirectML is needed, and none is tested.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLD, USUAL = ROOT / "constraints-directml.txt", ROOT / "constraints.txt"
TOO_NEW = (3, 13)
"""From this Python on there is no torch-directml."""
TESTS = (
    "tests/domains/inference/backends",
    "tests/domains/model/backends",
    "tests/domains/chain/backends/upscaling",
)
# Libraries of another year warn of what concerns nobody here.
_PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", "--tier", "usual")
_INSTALLED = ".installed"
_PIN = re.compile(r"([A-Za-z0-9._-]+)==")


def pins(text: str) -> dict[str, str]:
    """The lines of a file of constraints by their packages' names, as pip compares them."""
    found = (match for line in text.splitlines() if (match := _PIN.match(line)))
    return {re.sub("[-_.]+", "-", each[1]).lower(): each.string for each in found}


def merged(usual: str, old: str) -> Iterator[str]:
    """The constraints of the checks, with the old libraries' in their place."""
    yield from (pins(usual) | pins(old)).values()


def main(arguments: Sequence[str] | None = None) -> int:
    """Install what is not installed, and test; the exit code of pytest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-directml", metavar="FOLDER")
    parser.add_argument("--install", action="store_true", help="test nothing")
    options, rest = parser.parse_known_args(arguments)
    folder = options.venv.absolute()
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    try:
        if not (folder / _INSTALLED).exists():
            _install(folder, python)
        if options.install:
            return 0
    except subprocess.CalledProcessError as error:
        print(f"It could not be installed: {error}", file=sys.stderr)
        return 1
    return subprocess.run(
        [python, *_PYTEST, *(rest or TESTS)], cwd=ROOT, check=False
    ).returncode


def _install(folder: Path, python: Path) -> None:
    """Raises CalledProcessError."""
    if sys.version_info >= TOO_NEW:
        raise SystemExit("torch-directml needs Python 3.11 or 3.12; name it: PYTHON=python3.12")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        constraints = Path(scratch) / "constraints.txt"
        lines = merged(USUAL.read_text("utf-8"), OLD.read_text("utf-8"))
        constraints.write_text("\n".join(lines), "utf-8")
        pip: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--constraint",
            constraints,
        ]
        subprocess.run([*pip, "--editable", f"{ROOT}[directml,dev]"], check=True)
    subprocess.run([python, "-m", "pip", "check"], check=True)
    (folder / _INSTALLED).touch()


if __name__ == "__main__":
    sys.exit(main())
