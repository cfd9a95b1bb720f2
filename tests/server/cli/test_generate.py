"""`deviceops generate` against a server that speaks the contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from deviceops.v1 import (
    errors_pb2,
    event_pb2,
    session_pb2,
)
from tests.server.cli.conftest import Run
from tests.server.cli.messages import (
    accepted,
    chunks,
    completed,
    event,
    png,
    refuse,
    result,
    sha256,
    whole,
)
from tests.server.cli.scripted import ScriptedServer


def test_a_picture_is_saved_under_its_seed_and_artifact(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Stdout holds its path and nothing else."""
    data = png()
    scripted.on_generate = lambda request, context: whole(data, seed=42)

    done = against("generate", "a red apple", "-o", tmp_path / "pictures")

    path = tmp_path / "pictures" / f"42-{sha256(data)[:12]}.png"
    assert done.exit_code == 0, done.output
    assert path.read_bytes() == data
    assert done.stdout == f"{path}\n"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_progress_without_a_terminal_is_plain_lines(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Queue, phase, steps and what had to be done otherwise; no cursor movements."""
    scripted.on_generate = lambda request, context: whole(png())

    done = against("generate", "x", "-o", tmp_path)

    assert "Waiting, 1 ahead\n" in done.stderr
    assert "Drawing\n" in done.stderr
    assert "Picture 1: step 4/4\n" in done.stderr
    assert "1 picture in 1.5 s on cpu:0\n" in done.stderr
    assert "The VAE ran in tiles." in done.stderr
    assert "\x1b" not in done.output


def test_a_long_load_is_a_line_per_tenth(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Not one per message: a log is to be read."""

    def draw(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        yield accepted(7)
        for done in range(1, 501):
            moved = event_pb2.TransferProgress(item="unet", done_bytes=done, total_bytes=500)
            yield event(1 + done, transfer_progress=moved)
        yield completed(502)

    scripted.on_generate = draw
    done = against("generate", "x", "-o", tmp_path)

    assert done.stderr.count("Loading unet") in (10, 11)
    assert "Loading unet: 500 B of 500 B" in done.stderr


def test_many_tiles_are_a_line_per_tenth(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Items are told one by one; the tiles within one are not."""

    def draw(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        yield accepted(7)
        for item in ("a", "b"):
            for done in range(1, 201):
                tile = event_pb2.ItemFinished(item_id="tile", done_count=done, total_count=200)
                sent = event(1 + done, item_finished=tile)
                sent.item_id = item
                yield sent
        for number in range(40):
            ended = event_pb2.ItemFinished(
                item_id=f"end-{number}", done_count=number + 1, total_count=40
            )
            sent = event(500 + number, item_finished=ended)
            sent.item_id = f"end-{number}"
            yield sent
        yield completed(600)

    scripted.on_generate = draw
    done = against("generate", "x", "-o", tmp_path)

    assert done.stderr.count("a: tile ") in (10, 11)
    assert done.stderr.count("b: tile ") in (10, 11)
    assert "b: tile 200/200" in done.stderr
    assert done.stderr.count("end-") == 40


def test_json_is_one_object_per_line_without_picture_bytes(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Every event, then a summary that says where the picture is."""
    data = png()
    scripted.on_generate = lambda request, context: whole(data)

    done = against("generate", "x", "--json", "-o", tmp_path)

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    events = [line["event"] for line in lines if line["type"] == "event"]
    summary = lines[-1]
    sent = sum(entry["image_chunk"]["data_bytes"] for entry in events if "image_chunk" in entry)
    assert done.exit_code == 0
    assert sent == len(data)
    assert not any("data" in entry.get("image_chunk", {}) for entry in events)
    assert not any("data" in entry.get("preview", {}) for entry in events)
    assert (summary["type"], summary["state"]) == ("summary", "completed")
    assert Path(summary["pictures"][0]["path"]).read_bytes() == data
    assert summary["pictures"][0]["artifact_id"] == sha256(data)


def test_without_data_pictures_stay_with_the_server(
    against: Run, scripted: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stdout has their ids; nothing is written."""
    data = png()
    monkeypatch.chdir(tmp_path)

    def draw(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        return (entry for entry in whole(data) if not entry.HasField("image_chunk"))

    scripted.on_generate = draw
    done = against("generate", "x", "--no-data")
    lines = against("generate", "x", "--no-data", "--json").stdout.splitlines()

    assert done.exit_code == 0, done.output
    assert done.stdout == f"{sha256(data)}\n"
    assert "1 picture in 1.5 s on cpu:0, kept by the server" in done.stderr
    assert scripted.requests[0].delivery.omit_image_data
    left = [json.loads(line) for line in lines if '"left"' in line]
    assert [entry["artifact_id"] for entry in left] == [sha256(data)]
    assert not (tmp_path / "out").exists()


def test_an_existing_file_stays_whole(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """The new picture gets a suffix."""
    data = png()
    scripted.on_generate = lambda request, context: whole(data)
    (tmp_path / "apple.png").write_bytes(b"mine")

    done = against("generate", "x", "-o", tmp_path / "apple.png")

    assert (tmp_path / "apple.png").read_bytes() == b"mine"
    assert (tmp_path / "apple-1.png").read_bytes() == data
    assert done.stdout.strip().endswith("apple-1.png")


def test_the_output_name_decides_the_format(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """And contradicting it is refused before anything is sent."""
    scripted.on_generate = lambda request, context: whole(png())

    against("generate", "x", "-o", tmp_path / "a.jpg")
    done = against("generate", "x", "-o", tmp_path / "a.jpg", "--format", "png")

    assert [request.settings.output.format for request in scripted.requests] == [2]
    assert done.exit_code == 2
    assert "--format png does not fit --output a.jpg" in done.stderr


def test_several_pictures_into_one_name_are_numbered(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Each picture has its own bytes, whatever their order in the stream."""
    pictures = [png((10, 0, 0)), png((0, 10, 0))]

    def draw(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        yield accepted(5, 6)
        for index, data in enumerate(pictures):
            image = result(data, index, seed=5 + index)
            yield from chunks(index + 1, data, index)
            yield event(index + 2, image_finished=event_pb2.ImageFinished(image=image))
        yield completed(4)

    scripted.on_generate = draw
    done = against("generate", "x", "-o", tmp_path / "a.png")

    assert done.exit_code == 0, done.output
    assert (tmp_path / "a-0.png").read_bytes() == pictures[0]
    assert (tmp_path / "a-1.png").read_bytes() == pictures[1]


@pytest.mark.parametrize("fault", ["hash", "hole", "nothing", "id"])
def test_a_damaged_picture_is_an_error_and_leaves_no_file(
    fault: str, against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Other bytes, missing bytes, no bytes, and an id that would lead out of the folder."""
    data = png()
    ids = {"hash": sha256(b"other"), "id": "../../../../evil"}
    image = result(data, artifact_id=ids.get(fault, sha256(data)))
    sent = {"hole": 1, "nothing": 10**6}.get(fault, 0)

    def draw(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        yield accepted(7)
        yield from list(chunks(1, data))[sent:]
        yield event(2, image_finished=event_pb2.ImageFinished(image=image))
        yield completed(3, image)

    scripted.on_generate = draw
    done = against("generate", "x", "-o", tmp_path / "out")

    assert done.exit_code == 1
    assert "Error: " in done.stderr
    assert done.stdout == ""
    assert [*tmp_path.rglob("*.png"), *tmp_path.rglob("*evil*")] == []
    assert not list(tmp_path.rglob(".deviceops-*"))


def test_a_folder_that_cannot_be_written_is_said_with_the_way_out(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """The picture is not lost: the server keeps it."""
    data = png()
    scripted.on_generate = lambda request, context: whole(data)
    (tmp_path / "file").touch()

    done = against("generate", "x", "-o", tmp_path / "file" / "out")

    assert done.exit_code == 1
    assert "cannot be written" in done.stderr
    assert f"deviceops artifacts get {sha256(data)}" in done.stderr


def test_a_picture_that_the_server_has_no_more_is_said_with_its_seed(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    data = png()
    image = result(data, seed=7)

    def draw(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        yield accepted(7)
        finished = event_pb2.ImageFinished(
            image=image, data_missing=errors_pb2.ERROR_REASON_ARTIFACT_NOT_FOUND
        )
        yield event(2, image_finished=finished)
        yield completed(3, image)

    scripted.on_generate = draw
    done = against("generate", "x", "-o", tmp_path / "out")

    assert done.exit_code == 1
    assert "artifact-not-found" in done.stderr
    assert "--seed 7" in done.stderr
    assert list(tmp_path.rglob("*.png")) == []


def test_a_withheld_picture_is_said_and_not_saved(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """A safety policy that blocks leaves a result without an artifact."""

    def draw(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        image = session_pb2.ImageResult(image_index=0, seed=7)
        image.safety.policy_id = "strict"
        yield accepted(7)
        yield event(2, image_finished=event_pb2.ImageFinished(image=image))
        yield completed(3, image)

    scripted.on_generate = draw
    done = against("generate", "x", "-o", tmp_path / "out")

    assert done.exit_code == 0
    assert "withheld by safety policy strict" in done.stderr
    assert done.stdout == ""


def _bad_request(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
    fields = error_details_pb2.BadRequest()
    fields.field_violations.add(
        field="settings.width",
        description="must be a multiple of 8",
        reason="DIMENSIONS_INVALID",
    )
    fields.field_violations.add(field="settings.steps", description="must be at most 150")
    refuse(
        context,
        grpc.StatusCode.INVALID_ARGUMENT,
        "The request has 2 faults.",
        "DIMENSIONS_INVALID",
        fields,
    )
    yield from ()


def test_a_refused_request_is_one_readable_block(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """What failed, why, and every field with what is wrong with it."""
    scripted.on_generate = _bad_request

    done = against("generate", "x", "--width", 257, "-o", tmp_path)

    assert done.exit_code == 2
    assert done.stderr == (
        "Error: The request has 2 faults.\n"
        "  reason: DIMENSIONS_INVALID (INVALID_ARGUMENT)\n"
        "  settings.width: must be a multiple of 8\n"
        "  settings.steps: must be at most 150\n"
    )


def test_a_refused_request_in_json_is_one_object(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """With the same facts, for programs."""
    scripted.on_generate = _bad_request

    done = against("generate", "x", "--json", "-o", tmp_path)

    said = json.loads(done.stdout)
    assert (said["type"], said["status"]) == ("error", "INVALID_ARGUMENT")
    assert [entry["field"] for entry in said["violations"]] == [
        "settings.width",
        "settings.steps",
    ]
    assert said["exit_code"] == done.exit_code == 2


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "DEVICE_LOST", 3),
        (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", 4),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", 5),
        (grpc.StatusCode.CANCELLED, "CANCELLED_BY_CLIENT", 130),
        (grpc.StatusCode.INTERNAL, "INTERNAL", 1),
    ],
)
def test_each_class_of_failure_has_its_exit_code(
    code: grpc.StatusCode,
    reason: str,
    expected: int,
    against: Run,
    scripted: ScriptedServer,
    tmp_path: Path,
) -> None:
    """And retry advice and incident id are shown where the server sends them."""
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=5))

    def fail(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        refuse(context, code, "It failed.", reason, retry, incident_id="inc-9")
        yield from ()

    scripted.on_generate = fail
    done = against("generate", "x", "-o", tmp_path)

    assert done.exit_code == expected
    assert f"reason: {reason} ({code.name})" in done.stderr
    assert "Trying again is worthwhile after 5.0 s." in done.stderr
    assert "incident id: inc-9" in done.stderr


def test_a_session_that_fails_in_mid_work_is_reported_once(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """From its own last entry; the call's status says the same."""

    def fail(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        yield accepted(7)
        failed = event_pb2.SessionFailed()
        failed.failure.status_code = 8
        failed.failure.reason = errors_pb2.ERROR_REASON_DEVICE_OUT_OF_MEMORY
        failed.failure.message = "Device memory does not suffice."
        failed.failure.metadata["needed_bytes"] = "123"
        yield event(2, failed=failed)
        refuse(
            context,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "Device memory does not suffice.",
            "DEVICE_OUT_OF_MEMORY",
        )

    scripted.on_generate = fail
    done = against("generate", "x", "-o", tmp_path)

    assert done.exit_code == 5
    assert done.stderr.count("Error: Device memory does not suffice.") == 1
    assert "needed_bytes: 123" in done.stderr


def test_text_from_the_server_cannot_steer_the_terminal(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Escape sequences and direction changes are taken out."""

    def fail(request: Any, context: Any) -> Iterator[event_pb2.SessionEvent]:
        refuse(
            context,
            grpc.StatusCode.NOT_FOUND,
            "No model \x1b[2J\u202egpj.exe",
            "MODEL_NOT_FOUND",
        )
        yield from ()

    scripted.on_generate = fail
    done = against("generate", "x", "-o", tmp_path)

    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr
    assert "No model [2Jgpj.exe" in done.stderr


def test_a_stream_that_ends_without_an_ending_is_an_error(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Nothing may be taken for success that did not say so."""
    scripted.on_generate = lambda request, context: iter([accepted(7)])

    done = against("generate", "x", "-o", tmp_path)

    assert done.exit_code == 1
    assert "without saying how the session ended" in done.stderr
