"""What the server says of itself, marks of pictures, and advice about refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from deviceops.v1 import event_pb2, inference_pb2, system_pb2
from server.version import own_version
from tests.server.cli.conftest import Run
from tests.server.cli.messages import accepted, event, png, refuse
from tests.server.cli.scripted import ScriptedServer


@pytest.fixture
def told(scripted: ScriptedServer) -> ScriptedServer:
    """A server that says what it is."""
    info = system_pb2.GetServerInfoResponse(
        server_version="0.3.0",
        contract_version="v1.2",
        draining=True,
        client_name="ann\x1b[2J",
        client_role=system_pb2.CLIENT_ROLE_RUN,
    )
    info.features.add(name="InferenceService.Generate", built=True)
    info.features.add(name="InferenceService.VerifyImage")
    info.features.add(name="GenerationSettings.loras")
    info.limits.add(field="GenerationSettings.width", minimum=256, maximum=2048, unit="pixels")
    info.limits[0].multiple_of = 8
    info.limits.add(field="WorkOptions.tags", max_elements=32)
    info.limits.add(field="GenerationSettings.prompt", max_characters=10000)
    info.limits.add(field="InputImage.inline", max_size_bytes=3145728, required=True)
    info.retentions.sessions.FromSeconds(7200)
    info.retentions.batches_survive_restart = True
    info.quotas.allocation_bytes = 2**30
    info.quotas.open_calls["work"] = 20
    info.software_versions["grpcio"] = "1.85.1"
    scripted.info = info
    return scripted


def test_info_says_who_is_who_and_what_is_built(against: Run, told: ScriptedServer) -> None:
    done = against("server", "info")

    said = " ".join(done.stdout.split())
    assert f"server: 0.3.0 this command line: {own_version()} contract: v1.2" in said
    assert "state: draining" in said
    assert "you are: ann[2J, with the role run" in said
    assert "built: 1 of 3 parts of the contract" in said
    assert "not built of InferenceService: VerifyImage" in said
    assert "not built of GenerationSettings: loras" in said
    assert "sessions: kept 2 h once final" in said
    assert "after a restart: sessions are gone, batches are there" in said
    assert "your allocations: 0 B of 1.0 GiB" in said
    assert "open calls: 20 work" in said
    assert "software: grpcio 1.85.1" in said
    assert "GenerationSettings.width" not in said


def test_limits_are_shown_when_wanted(against: Run, told: ScriptedServer) -> None:
    lines = against("server", "info", "--limits").stdout.splitlines()

    assert "GenerationSettings.width\tpixels\t256\t2048\t8\t" in lines
    assert "WorkOptions.tags\telements\t\t32\t\t" in lines
    assert "GenerationSettings.prompt\tcharacters\t\t10000\t\t" in lines
    assert "InputImage.inline (required)\tbytes\t\t3145728\t\t" in lines


def test_info_in_json_is_the_contracts_own_form(against: Run, told: ScriptedServer) -> None:
    said = json.loads(against("server", "info", "--json").stdout)

    assert said["client_role"] == "CLIENT_ROLE_RUN"
    assert said["limits"][0]["maximum"] == 2048


def test_a_server_that_does_not_tell_says_so(against: Run, scripted: ScriptedServer) -> None:
    done = against("server", "info")

    assert done.exit_code == 1
    assert "GetServerInfo is in the contract and not in this version." in done.stderr


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    return path


def test_marks_that_cannot_be_read_yet_are_said_to_be_so(
    against: Run, scripted: ScriptedServer, picture: Path
) -> None:
    done = against("verify", picture)

    assert done.exit_code == 1
    assert "VerifyImage is in the contract and not in this version." in done.stderr
    assert "what not yet: deviceops server info" in done.stderr
    assert scripted.requests[0].image.inline == png()


def test_marks_are_told_one_a_line(
    against: Run, scripted: ScriptedServer, picture: Path
) -> None:
    scripted.marks = inference_pb2.VerifyImageResponse(
        signature=inference_pb2.SIGNATURE_STATE_BROKEN,
        signer="Ann's studio",
        watermark_found=True,
        watermark_confidence=0.97,
    )

    done = against("verify", picture)
    scripted.marks.signature = 9  # type: ignore[assignment]
    newer = against("verify", "a" * 64)

    assert "broken: picture or manifest changed after signing" in done.stdout
    assert "signer:         Ann's studio" in done.stdout
    assert "found (sure to 97%)" in done.stdout
    assert "unspecified (9)" in newer.stdout
    assert scripted.requests[-1].image.artifact_id == "a" * 64
    assert json.loads(against("verify", picture, "--json").stdout)["watermark_found"] is True
    both = against("verify", picture, "b" * 64)
    assert [line for line in both.stdout.splitlines() if line.startswith("picture")] == [
        f"picture:        {picture}",
        f"picture:        {'b' * 64}",
    ]
    listed = json.loads(against("verify", picture, "b" * 64, "--json").stdout)["pictures"]
    assert [each["picture"] for each in listed] == [str(picture), "b" * 64]
    assert listed[1]["signer"] == "Ann's studio"


def test_a_picture_whose_marks_cannot_be_read_keeps_no_other_one(
    against: Run, scripted: ScriptedServer, picture: Path
) -> None:
    """It is named, and what the others say is told all the same."""

    def refused(request: Any, context: Any) -> None:
        if request.image.artifact_id == "b" * 64:
            code = grpc.StatusCode.NOT_FOUND
            refuse(context, code, "There is none.", "ARTIFACT_NOT_FOUND")

    scripted.marks = inference_pb2.VerifyImageResponse(signer="Ann")
    scripted.on_control = refused

    done = against("verify", picture, "b" * 64, "c" * 64)
    told = json.loads(against("verify", "b" * 64, picture, "--json").stdout)["pictures"]

    assert done.exit_code == 4
    assert done.stdout.count("signer:") == 2
    assert f"picture:        {'c' * 64}" in done.stdout
    assert f"Error: {'b' * 64}: There is none." in done.stderr
    assert [each["picture"] for each in told] == ["b" * 64, str(picture)]
    assert told[0]["error"]["reason"] == "ARTIFACT_NOT_FOUND"
    assert told[1]["signer"] == "Ann"


def test_pictures_that_no_message_holds_are_not_sent(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "large.png").write_bytes(bytes(3_145_729))

    large = against("verify", tmp_path / "large.png")
    missing = against("verify", tmp_path / "missing.png")

    assert (large.exit_code, missing.exit_code) == (2, 2)
    assert "deviceops upload" in large.stderr
    assert "cannot be read" in missing.stderr
    assert scripted.requests == []


def _unknown_field(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
    code = grpc.StatusCode.INVALID_ARGUMENT
    refuse(context, code, "Field number 99 is not known.", "UNKNOWN_FIELD")
    yield from ()


def test_a_field_that_an_older_server_does_not_know_names_both_versions(
    against: Run, told: ScriptedServer, tmp_path: Path
) -> None:
    told.on_generate = _unknown_field

    done = against("generate", "x", "-o", tmp_path)

    assert done.exit_code == 2
    assert f"command line is version {own_version()}, the server is 0.3.0" in done.stderr


def test_a_server_too_old_to_tell_its_version_is_said_to_be_older(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.on_generate = _unknown_field

    done = against("generate", "x", "-o", tmp_path)

    assert f"command line is version {own_version()}, the server is older" in done.stderr


@pytest.mark.parametrize(
    ("timeout", "said"),
    [("queue", "--queue-timeout"), ("run", "--run-timeout"), ("", "It took too long.")],
)
def test_a_timeout_says_which_it_was(
    timeout: str, said: str, against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """In the session's own last entry."""

    def fail(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        yield accepted(7)
        failed = event_pb2.SessionFailed()
        failed.failure.status_code = 4
        failed.failure.reason = 136  # type: ignore[assignment]
        failed.failure.message = "It took too long."
        if timeout:
            failed.failure.metadata["timeout"] = timeout
        yield event(2, failed=failed)

    scripted.on_generate = fail
    done = against("generate", "x", "-o", tmp_path)

    assert done.exit_code == 1
    assert said in done.stderr
    assert "reason: DEADLINE_EXPIRED (DEADLINE_EXCEEDED)" in done.stderr


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("ROLE_REQUIRED", "Your name and role on this server: deviceops server info"),
        ("TOKEN_INVALID", "--token-file"),
        ("UPLOAD_NOT_FOUND", "send the file again from its start"),
    ],
)
def test_refusals_come_with_what_helps(
    reason: str, said: str, against: Run, scripted: ScriptedServer
) -> None:
    def refused(request: Any, context: Any) -> None:
        refuse(context, grpc.StatusCode.PERMISSION_DENIED, "Not so.", reason)

    scripted.on_control = refused
    done = against("sessions", "pause", "ses-1")

    assert said in done.stderr
