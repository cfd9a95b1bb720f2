"""`deviceops doctor`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from deviceops.v1 import device_info_pb2, model_info_pb2, system_pb2
from domains.clients import Role
from server.app import SERVICE_NAMES
from server.cli.checks import Finding, Verdict, machine
from server.cli.checks import settings as settings_checks
from server.cli.checks.machine import (
    ProbeFailed,
    check_packages,
    check_python,
    check_workers,
    judged,
    probe,
)
from server.config import Settings
from server.token_list import TokenFiles
from server.version import own_version
from tests.server.cli.conftest import Run
from tests.server.cli.scripted import ScriptedServer

GOOD: dict[str, Any] = {
    "torch": "2.13.0+cpu",
    "cuda": None,
    "hip": None,
    "cuda_available": False,
    "packages": {"diffusers": "0.42.1"},
    "weights_only_off": "",
}


@pytest.fixture
def torch_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child process is asked in tests of its own: it takes seconds."""
    monkeypatch.setattr(machine, "probe", lambda interpreter: GOOD)


@pytest.fixture
def healthy(scripted: ScriptedServer) -> ScriptedServer:
    """A server with everything in order but a second device."""
    scripted.serving(*SERVICE_NAMES)
    scripted.device_list.devices.add(device_id="cpu:0", kind=1, name="Ryzen", state=2)
    scripted.device_list.devices.add(device_id="cuda:0", kind=2, state=6, explanation="old")
    scripted.device_list.probes.add(kind=4, explanation="not Windows")
    scripted.models = [
        model_info_pb2.ModelInfo(
            model_id="emoji-xl", type=model_info_pb2.MODEL_TYPE_CHECKPOINT, usable=True
        )
    ]
    return scripted


def _by_name(output: str) -> dict[str, dict[str, str]]:
    return {finding["name"]: finding for finding in json.loads(output)["findings"]}


def test_a_machine_in_order(against: Run, healthy: ScriptedServer, torch_is_fine: None) -> None:
    """Exit code 0; devices that cannot be used are noted with their reason."""
    done = against("doctor", "--json")

    found = _by_name(done.stdout)
    assert done.exit_code == 0, done.output
    assert found["server"]["found"] == f"answers at {healthy.address}"
    assert found["services"]["found"] == f"all {len(SERVICE_NAMES)} serving"
    assert found["devices"]["found"] == "cpu:0 (Ryzen)"
    assert found["device cuda:0"]["found"] == "unavailable: old"
    assert found["devices of kind direct-ml"]["found"] == "none: not Windows"
    assert found["models"]["found"] == "checkpoints: emoji-xl"
    assert {finding["verdict"] for finding in found.values()} <= {"ok", "note"}


def test_another_version_and_the_caller_are_said(
    against: Run, healthy: ScriptedServer, torch_is_fine: None
) -> None:
    """Fields of a newer side are refused; one of the same version needs no word."""
    healthy.info = system_pb2.GetServerInfoResponse(
        server_version="0.0.9", client_name="ann", client_role=system_pb2.CLIENT_ROLE_RUN
    )
    older = _by_name(against("doctor", "--json").stdout)
    healthy.info.server_version = own_version()
    same = _by_name(against("doctor", "--json").stdout)

    assert older["version"]["found"] == f"server 0.0.9, command line {own_version()}"
    assert older["caller"]["found"] == "ann, with the role run"
    assert "version" not in same


def test_what_the_server_lacks_is_a_problem_with_advice(
    against: Run, healthy: ScriptedServer, torch_is_fine: None
) -> None:
    """A service that does not serve, no ready device, no usable model: exit code 1."""
    healthy.health.set(SERVICE_NAMES[0], 2)
    del healthy.device_list.devices[0]
    healthy.models[0].usable = False
    healthy.models[0].problem.message = "It is torn."
    healthy.left_out = ["'aux' is a name that Windows cannot have."]

    done = against("doctor", "--json")

    found = _by_name(done.stdout)
    problems = {name for name, f in found.items() if f["verdict"] == "problem"}
    assert done.exit_code == 1
    assert problems == {"services", "devices", "models"}
    assert found["services"]["found"] == f"not serving: {SERVICE_NAMES[0]}"
    assert found["model emoji-xl"]["found"] == "It is torn."
    assert found["left out of the models"]["found"] == healthy.left_out[0]
    assert all(found[name]["advice"] for name in problems)


def test_a_device_that_is_still_starting_is_no_problem(
    against: Run, healthy: ScriptedServer, torch_is_fine: None
) -> None:
    """Its worker takes its time after the server answers."""
    healthy.device_list.devices[0].state = device_info_pb2.DEVICE_STATE_STARTING

    done = against("doctor", "--json")

    assert done.exit_code == 0
    assert _by_name(done.stdout)["devices"]["verdict"] == "note"


def test_no_server_is_no_problem_unless_one_was_named(
    deviceops: Run, torch_is_fine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first start everything else is checked; the port too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("DEVICEOPS_PORT", str(port))

    none = deviceops("doctor")
    named = deviceops("--server", f"127.0.0.1:{port}", "doctor")

    assert none.exit_code == 0, none.output
    assert f"ok       port: 127.0.0.1:{port} is free" in none.stdout
    assert (
        "note     server: not running\n         -> Start it with: deviceops serve"
        in none.stdout
    )
    assert none.stdout.endswith("No problems.\n")
    assert named.exit_code == 1
    assert f"problem  server: No server answers at 127.0.0.1:{port}." in named.stdout


def test_wrong_settings_end_the_examination(
    deviceops: Run, torch_is_fine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything after them depends on them."""
    monkeypatch.setenv("DEVICEOPS_PORT", "many")

    done = deviceops("doctor")

    assert done.exit_code == 1
    assert "problem  settings: port (DEVICEOPS_PORT)" in done.stdout
    assert "disk" not in done.stdout


def test_a_port_that_another_program_has(settings: Settings) -> None:
    """Is a problem, named by address; a free one is not."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        busy = settings_checks.check_port(settings.model_copy(update={"port": port}))
    free = settings_checks.check_port(settings.model_copy(update={"port": port}))

    assert (busy.verdict, free.verdict) == (Verdict.PROBLEM, Verdict.OK)
    assert f"127.0.0.1:{port}" in busy.found


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_the_list_of_tokens(settings: Settings) -> None:
    """Not there, in order, without an ADMIN, damaged, open to others, and with auth off."""
    files = TokenFiles(settings.token_path)

    def check(chosen: Settings = settings) -> tuple[Verdict, str]:
        finding = settings_checks.check_token_list(chosen)
        return finding.verdict, finding.found + finding.advice

    assert check()[0] is Verdict.OK
    settings.runtime_dir.mkdir(mode=0o700)
    files.add("ann", Role.RUN)
    assert check() == (Verdict.OK, "default (admin), ann (run)")
    text = files.list.read_text()
    files.list.write_text(text.replace('"admin"', '"read"'))
    verdict, words = check()
    assert verdict is Verdict.PROBLEM
    assert "deviceops token add NAME --role admin" in words
    files.list.write_text(text[:-9])
    assert "is damaged" in check()[1]
    files.list.write_text(text)
    files.list.chmod(0o644)
    verdict, words = check()
    assert (verdict, "is open to other users" in words) == (Verdict.PROBLEM, True)
    files.list.chmod(0o600)
    assert check(settings.model_copy(update={"auth": False}))[0] is Verdict.NOTE


def test_a_token_that_others_can_read(settings: Settings) -> None:
    """The same file with the right mode is fine."""
    settings.token_path.parent.mkdir(parents=True, exist_ok=True)
    settings.token_path.write_text("s" * 43)
    settings.token_path.chmod(0o644)
    open_to_all = settings_checks.check_token(settings)
    settings.token_path.chmod(0o600)
    private = settings_checks.check_token(settings)

    assert (open_to_all.verdict, private.verdict) == (Verdict.PROBLEM, Verdict.OK)


def test_disk_room(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little is a problem; less than pictures may take is worth a note."""

    def verdict(free: int) -> Verdict:
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
        return settings_checks.check_disk(settings).verdict

    quota = settings.artifact_quota_bytes
    assert [verdict(n) for n in (2**20, quota - 1, quota)] == [
        Verdict.PROBLEM,
        Verdict.NOTE,
        Verdict.OK,
    ]


def test_model_folders(settings: Settings, tmp_path: Path) -> None:
    """None is a problem; one of two is worth a note."""

    def verdict(*roots: Path) -> Verdict:
        changed = settings.model_copy(update={"model_roots": roots})
        return settings_checks.check_model_roots(changed).verdict

    there, missing = tmp_path, tmp_path / "missing"
    assert [verdict(there), verdict(there, missing), verdict(missing)] == [
        Verdict.OK,
        Verdict.NOTE,
        Verdict.PROBLEM,
    ]


def test_python_and_packages() -> None:
    """What runs these tests is good enough; older and missing ones are problems."""
    assert check_python().verdict is Verdict.OK
    assert check_python((3, 10, 9)).verdict is Verdict.PROBLEM
    assert check_packages().verdict is Verdict.OK
    missing = check_packages(["grpcio", "no-such-package-at-all"])
    assert (missing.verdict, missing.found) == (
        Verdict.PROBLEM,
        "missing: no-such-package-at-all",
    )


def test_torch_is_found_by_a_child_process() -> None:
    """A real one, with this environment's torch; this process does not import it."""
    facts = probe(Path(sys.executable))

    found = judged("torch", facts)
    assert [finding.verdict for finding in found] == [Verdict.OK, Verdict.OK]
    assert facts["torch"] in found[0].found


def test_judgements_about_torch() -> None:
    """Missing torch, missing libraries, and the variable that turns a protection off."""

    def verdicts(**changes: Any) -> list[Finding]:
        return [f for f in judged("torch", GOOD | changes) if f.verdict is not Verdict.OK]

    assert verdicts() == []
    (no_torch,) = verdicts(torch=None, error="ImportError: libcudart")
    assert (no_torch.verdict, "libcudart" in no_torch.found) == (Verdict.PROBLEM, True)
    (no_library,) = verdicts(packages={"peft": None, "scipy": "1.15"})
    assert (no_library.verdict, no_library.found) == (Verdict.PROBLEM, "missing: peft")
    (variable,) = verdicts(weights_only_off="1")
    assert variable.verdict is Verdict.NOTE
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" in variable.name


@pytest.mark.skipif(os.name != "posix", reason="shell scripts as interpreters")
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo boom >&2; exit 3", "code 3 and said: boom"),
        ("kill -SEGV $$", "code -11"),
        ("echo not json", "code 0"),
        ("sleep 60", "took over"),
    ],
)
def test_an_interpreter_that_breaks(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crashes, nonsense and hangs are findings, not crashes of the doctor."""
    monkeypatch.setattr(machine, "TORCH_TIMEOUT", 0.5)
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\n{script}\n")
    interpreter.chmod(0o755)

    with pytest.raises(ProbeFailed, match=said):
        probe(interpreter)
    (finding,) = check_workers({"directml": interpreter})
    assert (finding.name, finding.verdict) == ("torch (directml)", Verdict.PROBLEM)


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    """Says so."""
    with pytest.raises(ProbeFailed, match="does not start"):
        probe(tmp_path / "python")
