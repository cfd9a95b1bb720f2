"""Checks of what is installed: Python, packages, and torch through a child process."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from server.cli.checks import Finding, note, ok, problem

OLDEST_PYTHON = (3, 11)
PACKAGES = (
    "grpcio",
    "grpcio-health-checking",
    "grpcio-reflection",
    "grpcio-status",
    "protobuf",
    "googleapis-common-protos",
    "pydantic",
    "msgspec",
    "structlog",
    "typer",
    "rich",
    "prometheus-client",
    "platformdirs",
    "psutil",
    "pillow",
    "numpy",
)
TORCH_TIMEOUT = 120.0  # seconds; a cold import from a slow disk takes long

# Runs in the worker's interpreter, with the environment that workers inherit.
_PROBE = """
import importlib.metadata as metadata, json, os
facts = {"weights_only_off": os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "")}
facts["packages"] = {}
for name in ("diffusers", "transformers", "accelerate", "peft", "safetensors", "scipy"):
    try:
        facts["packages"][name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        facts["packages"][name] = None
try:
    import torch
    facts["torch"] = torch.__version__
    facts["cuda"] = torch.version.cuda
    facts["hip"] = torch.version.hip
    facts["cuda_available"] = torch.cuda.is_available()
except Exception as error:
    facts["torch"] = None
    facts["error"] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(facts))
"""


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The interpreter that runs the front process."""
    found = f"{'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return problem("python", found, f"Use Python {oldest} or newer.")
    return ok("python", found)


def check_packages(names: Iterable[str] = PACKAGES) -> Finding:
    """Everything the front process and this command line import."""
    versions: list[str] = []
    missing: list[str] = []
    for name in names:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return problem(
            "packages",
            f"missing: {', '.join(missing)}",
            "Install them into this environment: pip install device-operations",
        )
    return ok("packages", ", ".join(versions))


def check_workers(interpreters: Mapping[str, Path]) -> list[Finding]:
    """Torch as each worker's interpreter sees it; `interpreters` by device kind."""
    found: list[Finding] = []
    for kind, interpreter in interpreters.items():
        name = f"torch ({kind})" if kind else "torch"
        try:
            facts = probe(interpreter)
        except ProbeFailed as error:
            found.append(problem(name, str(error), _TORCH_ADVICE))
            continue
        found += judged(name, facts)
    return found


_TORCH_ADVICE = (
    "Install torch's build for your devices, then: pip install 'device-operations[torch]'"
)


class ProbeFailed(Exception):
    """The interpreter did not answer; the message says how."""


def probe(interpreter: Path) -> dict[str, Any]:
    """What an interpreter has, asked in a process of its own: importing torch may crash it.

    Raises:
        ProbeFailed: It did not start, crashed, hung, or answered nonsense.
    """
    # In a folder of its own, so that no file here is imported in a library's place.
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [str(interpreter), "-c", _PROBE],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=TORCH_TIMEOUT,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise ProbeFailed(f"importing torch took over {TORCH_TIMEOUT:.0f} s") from None
        except OSError as error:
            message = f"{interpreter} does not start: {error.strerror or error}"
            raise ProbeFailed(message) from None
    lines = done.stdout.strip().splitlines()
    try:
        if done.returncode == 0 and lines:
            return dict(json.loads(lines[-1]))
    except ValueError:
        pass
    said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
    raise ProbeFailed(f"{interpreter} ended with code {done.returncode} and said: {said}")


def judged(name: str, facts: Mapping[str, Any]) -> list[Finding]:
    """Findings from what `probe` told."""
    found: list[Finding] = []
    if not facts.get("torch"):
        reason = facts.get("error", "not installed")
        found.append(problem(name, f"cannot be imported: {reason}", _TORCH_ADVICE))
    else:
        found.append(ok(name, f"{facts['torch']} ({_build(facts)})"))
    missing = [package for package, version in facts["packages"].items() if version is None]
    if missing:
        found.append(
            problem(
                f"{name}: libraries",
                f"missing: {', '.join(missing)}",
                "pip install 'device-operations[torch]'",
            )
        )
    else:
        versions = (f"{package} {version}" for package, version in facts["packages"].items())
        found.append(ok(f"{name}: libraries", ", ".join(versions)))
    if facts.get("weights_only_off"):
        found.append(
            note(
                f"{name}: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD",
                "set: it lets model files run code as they are opened",
                "Unset it; the server never needs it.",
            )
        )
    return found


def _build(facts: Mapping[str, Any]) -> str:
    if facts.get("hip"):
        kind = f"ROCm {facts['hip']}"
    elif facts.get("cuda"):
        kind = f"CUDA {facts['cuda']}"
    else:
        return "built for the processor"
    return (
        f"{kind}, {'a device answers' if facts.get('cuda_available') else 'no device answers'}"
    )
