"""Discovery against drivers that misbehave: each costs its own kind and nothing else.

A stand-in interpreter is a script that starts this Python with a stand-in library first
in its path, as another environment would be.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from domains.device.backends.probe_processes import ProbeProcesses
from domains.device.types import DeviceKind, Discovery, ProbeOutcome
from domains.values import FigureQuality

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="interpreters are scripts")
DRIVERS = Path(__file__).parents[2] / "fakes" / "drivers"
LOOKED_FOR: tuple[DeviceKind, ...] = tuple(k for k in DeviceKind if k is not DeviceKind.CPU)
Interpreter = Callable[..., Path]


@pytest.fixture
def interpreter(tmp_path: Path) -> Interpreter:
    """Makes an interpreter that finds the named stand-ins, and the minimal torch last."""

    def make(*drivers: str) -> Path:
        copies = tmp_path / "+".join(drivers)
        for driver in ("minimal_torch", *reversed(drivers)):
            shutil.copytree(DRIVERS / driver, copies, dirs_exist_ok=True)
        script = tmp_path / f"python-{copies.name}"
        script.write_text(f'#!/bin/sh\nPYTHONPATH="{copies}" exec "{sys.executable}" "$@"\n')
        script.chmod(0o755)
        return script

    return make


async def discover(python: Path, *, patience: float = 60) -> Discovery:
    return await ProbeProcesses(dict.fromkeys(LOOKED_FOR, python), timeout=patience).discover()


def outcome(discovery: Discovery, kind: DeviceKind) -> ProbeOutcome:
    (found,) = [probe for probe in discovery.probes if probe.kind is kind]
    return found


def probes_running() -> list[psutil.Process]:
    """Those of this process: a server that other tests share looks for devices as well."""
    return [
        process
        for process in psutil.Process().children()
        if any("backends.probe" in word for word in process.cmdline())
    ]


async def test_every_kind_is_answered_for_and_the_processor_is_always_there(
    interpreter: Interpreter,
) -> None:
    discovery = await discover(interpreter("empty"))

    assert [probe.kind for probe in discovery.probes] == list(DeviceKind)
    assert [adapter.kind for adapter in discovery.adapters] == [DeviceKind.CPU]
    assert outcome(discovery, DeviceKind.CUDA).explanation == (
        "torch 9.9.0 was built without CUDA"
    )
    assert outcome(discovery, DeviceKind.ROCM).explanation == (
        "torch 9.9.0 was built without ROCm"
    )
    assert outcome(discovery, DeviceKind.XPU).explanation == (
        "torch 9.9.0 was built without XPU"
    )


@pytest.mark.parametrize(
    ("driver", "explanation"),
    [
        ("segfaulting", "its driver ended the probe (SIGSEGV)"),
        ("crashing_on_name", "its driver ended the probe (SIGSEGV)"),
        ("crashing_on_use", "its driver ended the probe (SIGSEGV)"),
        (
            "failing",
            "looking for it failed: FileNotFoundError: [Errno 2] No such file or directory: "
            "'libdxcore.so'",
        ),
        ("garbling", "its probe gave an answer that cannot be read"),
        ("empty", "DirectX reports no hardware adapter"),
        ("raising", "DirectX does not answer: Unknown error -2147467259"),
        ("foreign", "DirectX does not answer: Le périphérique spécifié est introuvable"),
        (
            "unloadable",
            "torch_directml cannot be loaded: libd3d12.so: cannot open shared object file: "
            "No such file or directory",
        ),
    ],
)
async def test_a_broken_driver_costs_its_own_kind_and_is_explained(
    interpreter: Interpreter, driver: str, explanation: str
) -> None:
    discovery = await discover(interpreter(driver))

    assert outcome(discovery, DeviceKind.DIRECT_ML) == ProbeOutcome(
        DeviceKind.DIRECT_ML, 0, explanation
    )
    # Kinds before and after it in the order of looking.
    assert "without CUDA" in outcome(discovery, DeviceKind.CUDA).explanation
    assert "without XPU" in outcome(discovery, DeviceKind.XPU).explanation
    assert probes_running() == []


async def test_a_hanging_driver_is_ended_and_costs_its_own_kind(
    interpreter: Interpreter,
) -> None:
    discovery = await discover(interpreter("hanging"), patience=3)

    assert outcome(discovery, DeviceKind.DIRECT_ML).explanation == (
        "its driver did not answer within 3 seconds"
    )
    assert "without XPU" in outcome(discovery, DeviceKind.XPU).explanation
    assert probes_running() == []


async def test_cancelling_discovery_ends_its_process(interpreter: Interpreter) -> None:
    python = interpreter("hanging")
    ready = python.parent / "hanging" / "ready"
    os.mkfifo(ready)
    discovery = asyncio.create_task(discover(python))
    await asyncio.to_thread(ready.read_bytes)
    assert len(probes_running()) == 1

    discovery.cancel()
    with pytest.raises(asyncio.CancelledError):
        await discovery

    assert probes_running() == []


async def test_what_a_driver_prints_is_no_answer(interpreter: Interpreter) -> None:
    discovery = await discover(interpreter("printing"))

    (adapter,) = [a for a in discovery.adapters if a.kind is DeviceKind.DIRECT_ML]
    assert adapter.name == "Radeon RX 580"
    assert adapter.vendor == "AMD"
    assert adapter.torch_device == "privateuseone:0"
    assert adapter.explanation == ""
    assert adapter.total_memory.quality is FigureQuality.UNKNOWN
    assert adapter.total_memory.value is None
    assert "no total" in adapter.total_memory.source


async def test_a_name_beyond_ascii_is_told_as_it_is(interpreter: Interpreter) -> None:
    discovery = await discover(interpreter("foreign_name"))

    (adapter,) = [a for a in discovery.adapters if a.kind is DeviceKind.DIRECT_ML]
    assert (adapter.name, adapter.vendor) == ("Intel® Graphics", "Intel")


async def test_adapters_are_told_with_their_makers(interpreter: Interpreter) -> None:
    discovery = await discover(interpreter("two_adapters"))

    found = [a for a in discovery.adapters if a.kind is DeviceKind.DIRECT_ML]
    assert [(a.vendor, a.torch_device) for a in found] == [
        ("NVIDIA", "privateuseone:0"),
        ("Intel", "privateuseone:1"),
    ]
    assert outcome(discovery, DeviceKind.DIRECT_ML).device_count == 2


async def test_a_card_that_cannot_compute_is_found_and_says_why(
    interpreter: Interpreter,
) -> None:
    discovery = await discover(interpreter("cuda_two", "empty"))

    old, new = [a for a in discovery.adapters if a.kind is DeviceKind.CUDA]
    assert (old.name, old.slot, old.hardware_id) == ("Old card", "0000:3b:00", "GPU-aaaa")
    assert "no kernel image" in old.explanation
    assert new.explanation == ""
    assert new.total_memory.value == 8 << 30
    assert new.total_memory.quality is FigureQuality.MEASURED
    assert new.runtime_version == "torch 9.9.0+cu128"
    assert "without ROCm" in outcome(discovery, DeviceKind.ROCM).explanation


async def test_a_missing_driver_is_explained_in_its_own_words(
    interpreter: Interpreter,
) -> None:
    discovery = await discover(interpreter("rocm_one", "empty"))

    assert outcome(discovery, DeviceKind.ROCM).explanation == "No HIP GPUs are available"
    assert "without CUDA" in outcome(discovery, DeviceKind.CUDA).explanation


async def test_a_torch_built_for_none_of_them_is_not_imported(interpreter: Interpreter) -> None:
    discovery = await discover(interpreter("built_for_none"))

    assert {
        outcome(discovery, kind).explanation
        for kind in (DeviceKind.CUDA, DeviceKind.ROCM, DeviceKind.XPU)
    } == {f"torch 9.9.1+cpu was built without {name}" for name in ("CUDA", "ROCm", "XPU")}


async def test_a_torch_that_may_be_built_for_a_kind_is_imported(
    interpreter: Interpreter,
) -> None:
    """One that says a version, and one that says nothing of the kind."""
    discovery = await discover(interpreter("built_for_some"))

    assert "built without ROCm" in outcome(discovery, DeviceKind.ROCM).explanation
    for kind in (DeviceKind.CUDA, DeviceKind.XPU):
        assert outcome(discovery, kind).explanation == "torch cannot be loaded: it was imported"


async def test_each_kind_may_have_an_interpreter_of_its_own(interpreter: Interpreter) -> None:
    pythons: dict[DeviceKind, Path] = dict.fromkeys(LOOKED_FOR, interpreter("empty"))
    pythons[DeviceKind.DIRECT_ML] = interpreter("segfaulting")
    pythons[DeviceKind.CUDA] = interpreter("cuda_two")

    discovery = await ProbeProcesses(pythons).discover()

    assert outcome(discovery, DeviceKind.CUDA).device_count == 2
    assert "SIGSEGV" in outcome(discovery, DeviceKind.DIRECT_ML).explanation


async def test_an_interpreter_that_cannot_be_started_costs_its_kinds(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    pythons: dict[DeviceKind, Path] = dict.fromkeys(LOOKED_FOR, interpreter("empty"))
    pythons[DeviceKind.XPU] = tmp_path / "nowhere"

    discovery = await ProbeProcesses(pythons).discover()

    assert outcome(discovery, DeviceKind.XPU).explanation == (
        "its interpreter cannot be started: No such file or directory"
    )
    assert "without CUDA" in outcome(discovery, DeviceKind.CUDA).explanation


async def test_a_program_that_is_no_python_costs_its_kinds() -> None:
    discovery = await ProbeProcesses({DeviceKind.XPU: Path("/bin/false")}).discover()

    assert outcome(discovery, DeviceKind.XPU).explanation == (
        "its driver ended the probe (code 0x1)"
    )


async def test_the_processor_is_named_and_measured_without_torch() -> None:
    here, elsewhere = (
        ProbeProcesses(pythons).processor()
        for pythons in ({}, {DeviceKind.CPU: Path(sys.executable)})
    )

    assert here.name
    assert here.total_memory.value is not None
    assert 0 < here.total_memory.value <= psutil.virtual_memory().total
    assert here.runtime_version.startswith("torch ")
    assert here.explanation == ""
    assert elsewhere.runtime_version == ""
