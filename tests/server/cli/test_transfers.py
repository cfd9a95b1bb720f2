"""Artifacts: listing, fetching, sending, and connections that break."""

from __future__ import annotations

import json
import os
import signal
import threading
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deviceops.v1 import artifact_pb2
from server.cli import patience, upload
from tests.server.cli.conftest import Run
from tests.server.cli.messages import png, sha256
from tests.server.cli.scripted import ScriptedServer


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on waits hardly at all, three times; chunks are small."""
    monkeypatch.setattr(patience, "DELAYS", (0.01, 0.01, 0.01))
    monkeypatch.setattr(upload, "CHUNK_BYTES", 100)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A thousand bytes on this side's disk."""
    path = tmp_path / "file.bin"
    path.write_bytes(os.urandom(1000))
    return path


def test_an_artifact_is_fetched_and_checked(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """In chunks, under the name that was asked for, never over another file."""
    data = png()
    scripted.artifacts[sha256(data)] = data
    (tmp_path / "a.png").write_bytes(b"mine")

    beside = against("artifacts", "get", sha256(data), "-o", tmp_path / "a.png")
    over = against("artifacts", "get", sha256(data), "-o", tmp_path / "a.png", "--overwrite")

    assert beside.stdout == f"{tmp_path / 'a-1.png'}\n"
    assert (tmp_path / "a-1.png").read_bytes() == data
    assert over.stdout == f"{tmp_path / 'a.png'}\n"
    assert (tmp_path / "a.png").read_bytes() == data


def test_an_artifact_with_other_bytes_is_not_saved(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Its id says what it must be; and one that is not there is not found."""
    scripted.artifacts["a" * 64] = b"something else"

    wrong = against("artifacts", "get", "a" * 64, "-o", tmp_path / "a.png")
    missing = against("artifacts", "get", "b" * 64, "-o", tmp_path / "b.png")

    assert wrong.exit_code == 1
    assert "not those of the artifact" in wrong.stderr
    assert missing.exit_code == 4
    assert not list(tmp_path.glob("*.png"))


def test_a_download_goes_on_after_the_last_byte(
    against: Run, scripted: ScriptedServer, file: Path, tmp_path: Path
) -> None:
    data = file.read_bytes()
    scripted.artifacts[sha256(data)] = data
    scripted.breaks = [100, 0, 0, 400, 0]

    done = against("artifacts", "get", sha256(data), "-o", tmp_path / "copy")

    asked = scripted.of_type(artifact_pb2.DownloadArtifactRequest)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "copy").read_bytes() == data
    assert [request.offset_bytes for request in asked] == [0, 100, 100, 100, 400, 400]
    assert "The connection was lost; going on in" in done.stderr
    assert "Downloading: 1000 B of 1000 B" in done.stderr


def test_a_download_is_given_up_after_a_few_times_and_leaves_nothing(
    against: Run, scripted: ScriptedServer, file: Path, tmp_path: Path
) -> None:
    data = file.read_bytes()
    scripted.artifacts[sha256(data)] = data
    scripted.breaks = [100, *[0] * 9]

    done = against("artifacts", "get", sha256(data), "-o", tmp_path / "copy")

    assert done.exit_code == 3
    assert len(scripted.of_type(artifact_pb2.DownloadArtifactRequest)) == 4
    assert [path.name for path in tmp_path.glob("*copy*")] == []
    assert not list(tmp_path.glob(".deviceops-*"))


def test_a_file_is_sent_with_its_hash_and_its_id_is_printed(
    against: Run, scripted: ScriptedServer, file: Path
) -> None:
    data = file.read_bytes()

    first = against("upload", file)
    again = against("upload", file)

    header = scripted.of_type(artifact_pb2.ArtifactUpload)[0].upload
    assert first.stdout == f"{sha256(data)}\n"
    assert scripted.artifacts == {sha256(data): data}
    assert (header.offset_bytes, header.size_bytes, header.sha256) == (0, 1000, sha256(data))
    assert str(uuid.UUID(header.upload_id)) == header.upload_id
    assert again.stdout == first.stdout
    assert "It was there already." in again.stderr
    assert json.loads(against("upload", file, "--json").stdout)["existed"] is True


def test_an_upload_goes_on_with_what_the_server_has(
    against: Run, scripted: ScriptedServer, file: Path
) -> None:
    """Under the same id, from the first byte that is missing."""
    scripted.breaks = [250, 250, 800]

    done = against("upload", file)

    headers = [sent.upload for sent in scripted.of_type(artifact_pb2.ArtifactUpload)]
    assert done.exit_code == 0, done.output
    assert list(scripted.artifacts.values()) == [file.read_bytes()]
    assert [header.offset_bytes for header in headers] == [0, 250, 250, 800]
    assert len({header.upload_id for header in headers}) == 1


def test_an_upload_that_is_given_up_can_go_on_later(
    against: Run, scripted: ScriptedServer, file: Path
) -> None:
    scripted.breaks = [250] * 5

    done = against("upload", file)
    (upload_id,) = scripted.uploads
    scripted.breaks = []
    later = against("upload", file, "--upload-id", upload_id)

    assert done.exit_code == 3
    assert f"deviceops upload {file} --upload-id {upload_id}" in done.stderr
    assert later.exit_code == 0, later.output
    last = scripted.of_type(artifact_pb2.ArtifactUpload)[-1].upload
    assert (last.upload_id, last.offset_bytes) == (upload_id, 250)


def test_an_upload_that_the_server_forgot_begins_anew(
    against: Run, scripted: ScriptedServer, file: Path
) -> None:
    upload_id = str(uuid.uuid4())

    done = against("upload", file, "--upload-id", upload_id)

    assert done.exit_code == 0, done.output
    assert "nothing of it; sending from the start" in done.stderr
    assert scripted.of_type(artifact_pb2.ArtifactUpload)[0].upload.upload_id == upload_id


def test_a_file_that_changes_while_it_is_sent_is_refused(
    against: Run, scripted: ScriptedServer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = sha256(b"as it was before")
    monkeypatch.setattr(
        upload.hashlib,
        "file_digest",
        lambda *_: SimpleNamespace(hexdigest=lambda: digest),
    )

    done = against("upload", file)

    assert done.exit_code == 2
    assert "CHECKSUM_MISMATCH" in done.stderr
    assert scripted.artifacts == {}


def test_a_file_that_cannot_be_read_any_more_is_said_as_such(
    against: Run, scripted: ScriptedServer, file: Path
) -> None:
    """It is this side's fault, and not a lost connection."""
    scripted.breaks = [250]
    stop = scripted.uploads

    class Vanishing(dict[str, bytearray]):
        """Takes the file away when the server is asked what it has."""

        def get(self, key: str, default: bytearray | None = None) -> bytearray | None:  # type: ignore[override]
            file.unlink()
            return super().get(key, default)

    scripted.uploads = Vanishing(stop)
    done = against("upload", file)

    assert done.exit_code == 1
    assert f"{file} cannot be read" in done.stderr


@pytest.mark.parametrize("content", [None, b""])
def test_a_file_that_is_not_there_or_empty_is_not_sent(
    content: bytes | None, against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "nothing"
    if content is not None:
        path.write_bytes(content)

    done = against("upload", path)

    assert done.exit_code == 2
    assert str(path) in done.stderr
    assert scripted.requests == []


def test_the_token_goes_along_with_an_upload(
    against: Run, scripted: ScriptedServer, own_settings: Path, file: Path
) -> None:
    token = own_settings / "token"
    token.write_text("t" * 43)
    token.chmod(0o600)

    assert against("upload", file).exit_code == 0
    assert scripted.metadata[0]["authorization"] == f"Bearer {'t' * 43}"


def test_artifacts_are_listed_shown_and_deleted(
    against: Run, scripted: ScriptedServer, file: Path
) -> None:
    data = file.read_bytes()
    scripted.artifacts[sha256(data)] = data

    listed = against(
        *("artifacts", "--session", "ses-1", "--owner", "ann", "--type", "image/"),
        *("--limit", 5),
    )
    shown = against("artifacts", "show", sha256(data))
    deleted = against("artifacts", "delete", sha256(data))

    assert listed.stdout.splitlines()[1].split("\t")[:3] == [
        *(sha256(data), "image/png", "1000 B")
    ]
    assert scripted.requests[0] == artifact_pb2.ListArtifactsRequest(
        session_id="ses-1", owner="ann", media_type_prefix="image/", page_size=5
    )
    assert f"artifact: {sha256(data)}" in " ".join(shown.stdout.split())
    assert deleted.stdout == "Deleted.\n"
    assert against("artifacts", "show", sha256(data)).exit_code == 4


def test_ctrl_c_leaves_an_upload_that_can_go_on(
    against: Run, scripted: ScriptedServer, file: Path
) -> None:
    ended = threading.Event()

    def interrupt(context: Any) -> None:
        context.add_callback(ended.set)
        os.kill(os.getpid(), signal.SIGINT)
        assert ended.wait(30)

    scripted.on_upload = interrupt
    done = against("upload", file)

    (sent,) = scripted.of_type(artifact_pb2.ArtifactUpload)
    assert done.exit_code == 130
    assert f"--upload-id {sent.upload.upload_id}" in done.stderr
    assert ended.wait(30)


def test_how_long_an_artifact_is_kept_is_changed_by_name(
    against: Run, scripted: ScriptedServer, file: Path
) -> None:
    data = file.read_bytes()

    against("upload", file, "--retention", "2h")
    pinned = against("artifacts", "keep", sha256(data), "--pin")
    against("artifacts", "keep", sha256(data), "--no-pin", "--retention", "7d")
    nothing = against("artifacts", "keep", sha256(data))

    sent, first, second = scripted.requests
    assert sent.retention.seconds == 7200
    assert (first.pinned, first.HasField("retention")) == (True, False)
    assert pinned.stdout == "Kept until it is deleted.\n"
    assert second.HasField("pinned")
    assert (second.pinned, second.retention.seconds) == (False, 7 * 86400)
    assert nothing.exit_code == 2


def test_labels_are_set_removed_and_searched_for(
    against: Run, scripted: ScriptedServer, file: Path
) -> None:
    data = file.read_bytes()

    against("upload", file, "--label", "project=sky", "--label", "empty=")
    told = against("artifacts", "label", sha256(data), "b=2", "a=x=y", "--remove", "old")
    against("artifacts", "--label", "a=x=y")
    nothing = against("artifacts", "label", sha256(data))
    unusable = against("artifacts", "label", sha256(data), "novalue")
    twice = against("artifacts", "--label", "a=1", "--label", "a=2")

    sent, change, listing = scripted.requests
    assert dict(sent.labels) == {"project": "sky", "empty": ""}
    assert dict(change.labels) == {"a": "x=y", "b": "2"}
    assert list(change.removed_labels) == ["old"]
    assert told.stdout == "a=x=y, b=2\n"
    assert dict(listing.labels) == {"a": "x=y"}
    assert [done.exit_code for done in (nothing, unusable, twice)] == [2, 2, 2]


def test_a_small_picture_is_saved_over_nothing(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    command = ("artifacts", "thumbnail", "a" * 64, "--edge", 64, "-o", tmp_path / "s.webp")

    first, second = against(*command), against(*command)
    nowhere = against(*command[:-1], "/dev/null/s.webp")

    assert first.stdout.split() == [str(tmp_path / "s.webp")]
    assert second.stdout.split() == [str(tmp_path / "s-1.webp")]
    assert (tmp_path / "s.webp").read_bytes() == b"small"
    assert scripted.requests[0].edge_pixels == 64
    assert nowhere.exit_code == 2
