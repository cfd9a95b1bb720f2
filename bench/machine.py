"""What a run was measured on, and whether the machine had other things to do."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from server.worker.front.environment import child_environment

PACKAGES = (
    *("torch", "diffusers", "transformers", "grpcio", "protobuf", "numpy", "pillow"),
    "fpng-py",
)
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
_THREADING = ("OMP_", "GOMP_", "KMP_", "MKL_")
_LOOK_SECONDS = 2.0
# Share of all processors in use by others from which its figures are doubtful.
_BUSY_PERCENT = 10.0


@dataclass(frozen=True)
class Machine:
    """The hardware, the software, and how busy it was before the run began.

    `threading` are the variables that tell torch how to use threads; `load` are the
    averages of one, five and fifteen minutes; `busy_percent` is the share of all
    processors that was in use during two seconds before the run.
    """

    processor: str
    cores: int
    flags: dict[str, bool]
    memory_gib: float
    system: str
    python: str
    packages: dict[str, str]
    threading: dict[str, str]
    load: tuple[float, float, float]
    busy_percent: float


def describe_machine() -> Machine:
    """Look at this machine; takes two seconds. Call it before anything is started."""
    name, flags = _processor()
    return Machine(
        processor=name,
        cores=psutil.cpu_count() or 1,
        flags={flag: flag in flags for flag in _FLAGS},
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=platform.platform(),
        python=platform.python_version(),
        packages=_versions(),
        threading={
            name: value
            for name, value in child_environment().items()
            if name.startswith(_THREADING)
        },
        load=psutil.getloadavg(),
        busy_percent=psutil.cpu_percent(_LOOK_SECONDS),
    )


def busy_note(machine: Machine, disturbance: Mapping[str, float]) -> str:
    """A warning about the figures, or nothing.

    Args:
        machine: As it was before the run.
        disturbance: Percent of the machine that others used, by part of the run.
    """
    most = max(disturbance.values(), default=0.0)
    if max(machine.busy_percent, most) < _BUSY_PERCENT:
        return ""
    return (
        f"The machine had other work: {machine.busy_percent:.0f} % of its processors before "
        f"the run, up to {most:.0f} % during it. The figures are preliminary."
    )


class Others:
    """Measures how much of the machine others use, from its making on.

    Theirs is what the whole machine used and neither this process nor its descendants.
    """

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._used, self._own = _used_seconds(), _own_seconds()

    def percent(self) -> float:
        """The share of all processors so far; processes that nobody waited for count."""
        own = _own_seconds() - self._own
        seconds = (time.perf_counter() - self._since) * (psutil.cpu_count() or 1)
        return max(0.0, (_used_seconds() - self._used - own) / seconds * 100)


def _used_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system)


def _own_seconds() -> float:
    """Of this process and its descendants, those it has waited for included."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _processor() -> tuple[str, set[str]]:
    """Its name and instruction set flags, as far as the system tells."""
    facts: dict[str, str] = {}
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or platform.processor() or platform.machine()
    return name, set(facts.get("flags", "").split())


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
