"""Which marks pictures get, by server, policy and request, and refusals before any work."""

from __future__ import annotations

import errno
import hashlib
import os
from itertools import product
from pathlib import Path

import pytest

from domains.errors import Reason
from domains.provenance.backends import manifests
from domains.provenance.backends.secrets import SecretsFolder
from domains.provenance.backends.signing import Signer
from domains.provenance.core import Provenance, merged
from domains.provenance.errors import (
    InvalidProvenance,
    LibraryMissing,
    SigningMissing,
    SigningUnavailable,
)
from domains.provenance.types import Made
from domains.session.jobs import SpooledImage
from domains.session.types import ImageResult
from domains.values import ImageFileFormat, PictureMarks, ProvenanceWish, Toggle
from tests.domains.picture.drawn import painting, saved

FIELD = "settings.output.provenance"
SIZE = (256, 256)


def provenance_at(folder: Path, server: PictureMarks = PictureMarks()) -> Provenance:  # noqa: B008
    secrets = SecretsFolder(folder)
    return Provenance(server, Signer(secrets, None, None, None, "0"), secrets)


def test_every_case_of_server_policy_and_request() -> None:
    for server, policy, asked in product((False, True), (False, True), Toggle):
        wanted = policy or {Toggle.ON: True, Toggle.OFF: False, Toggle.SERVER: server}[asked]
        found = merged(
            PictureMarks(server, False), PictureMarks(policy, False), ProvenanceWish(asked)
        )
        assert found == PictureMarks(wanted, False), (server, policy, asked)
        found = merged(
            PictureMarks(False, server),
            PictureMarks(False, policy),
            ProvenanceWish(watermark=asked),
        )
        assert found == PictureMarks(False, wanted), (server, policy, asked)


async def test_what_cannot_be_made_is_refused_by_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = provenance_at(tmp_path, PictureMarks(True, True))
    none = ProvenanceWish(Toggle.OFF, Toggle.OFF)
    assert await usual.decide(none, (8, 8), FIELD) == PictureMarks()
    assert os.listdir(tmp_path) == []
    with pytest.raises(InvalidProvenance) as small:
        await usual.decide(ProvenanceWish(), (95, 512), FIELD)
    assert small.value.reason is Reason.DIMENSIONS_INVALID
    assert small.value.violations[0].field == f"{FIELD}.watermark"
    assert await usual.decide(ProvenanceWish(), (96, 512), FIELD) == PictureMarks(True, True)

    monkeypatch.setattr(manifests, "find_spec", lambda name: None)
    bare = provenance_at(tmp_path / "bare", PictureMarks(True))
    with pytest.raises(SigningMissing) as missing:
        await bare.decide(ProvenanceWish(), SIZE, FIELD)
    assert missing.value.reason is Reason.NOT_BUILT
    assert missing.value.metadata["field"] == f"{FIELD}.manifest"
    assert "pip install 'device-operations[provenance]'" in missing.value.message
    with pytest.raises(LibraryMissing):
        await bare.start()
    # The invisible mark needs no library.
    assert await bare.decide(
        ProvenanceWish(Toggle.OFF, Toggle.ON), SIZE, FIELD
    ) == PictureMarks(watermark=True)


async def test_a_key_that_is_gone_bad_is_a_typed_failure_without_its_path(
    tmp_path: Path,
) -> None:
    (tmp_path / "signer.pem").mkdir()
    (tmp_path / "mark.key").mkdir()
    made = provenance_at(tmp_path)

    with pytest.raises(SigningUnavailable) as caught:
        await made.decide(ProvenanceWish(Toggle.ON), SIZE, FIELD)
    assert str(tmp_path) not in caught.value.message
    with pytest.raises(SigningUnavailable):
        await made.mark_key()


async def test_a_signed_file_takes_the_place_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = provenance_at(tmp_path / "provenance")
    data, path = saved(painting()), tmp_path / "picture"
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    image = ImageResult(
        0,
        1,
        sha256,
        ImageFileFormat.PNG,
        48,
        32,
        len(data),
        provenance=PictureMarks(False, True),
    )

    done = await made.sign(SpooledImage(image, path), Made("session"))

    assert done.path == path
    assert done.image.artifact_id == hashlib.sha256(path.read_bytes()).hexdigest() != sha256
    assert done.image.size_bytes == path.stat().st_size > len(data)
    assert done.image.provenance == PictureMarks(True, True)
    assert sorted(os.listdir(tmp_path)) == ["picture", "provenance"]

    broken = tmp_path / "broken"
    broken.write_bytes(b"no picture")
    with pytest.raises(SigningUnavailable):
        await made.sign(SpooledImage(image, broken), Made())
    assert not broken.exists()

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    broken.write_bytes(b"no picture")
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(SigningUnavailable):
        await made.sign(SpooledImage(image, broken), Made())
