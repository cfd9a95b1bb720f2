"""Reading marks of pictures that nobody vouches for, and whose session made them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from domains.clients import Caller, Role, calling
from domains.errors import DomainError, InvalidArgument, Reason, Unavailable
from domains.picture.errors import PictureRefused
from domains.picture.types import InputImage
from domains.provenance.backends import manifests, reading
from domains.provenance.backends.mark import add_mark
from domains.provenance.backends.secrets import SecretsFolder
from domains.provenance.backends.signing import Signer
from domains.provenance.core import Verification
from domains.provenance.errors import ReaderMissing, SigningUnavailable
from domains.provenance.jobs import VerifyJob
from domains.provenance.types import Made, SignatureState, Trust
from domains.values import ImageFileFormat
from tests.domains.picture.drawn import saved
from tests.domains.picture.stand import Stand, stand_at
from tests.domains.provenance.drawn import photograph
from tests.fakes.jobs import Listener
from tests.odd_pictures import bad_pictures, good_pictures

ANNA, OTTO = Caller("anna", Role.RUN), Caller("otto", Role.RUN)
PICTURE = saved(Image.fromarray(photograph(128, 1)))


@dataclass
class InspectorsHere:
    """Does the work of inspectors in this process, or fails."""

    failure: DomainError | None = None

    async def run(
        self, device_id: str, session_id: str, job: Any, *, remaining: float
    ) -> AsyncGenerator[Any]:
        if self.failure is not None:
            raise self.failure
        yield reading.verify(job, Listener())

    def cancel(self, device_id: str, session_id: str) -> None:
        raise NotImplementedError


@dataclass
class Place:
    stand: Stand
    inspectors: InspectorsHere
    secrets: SecretsFolder
    signer: Signer
    verification: Verification


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    inspectors = InspectorsHere()
    stand = await stand_at(tmp_path, inspectors)
    secrets = SecretsFolder(tmp_path / "provenance")
    signer = Signer(secrets, None, None, None, "1.2.3")
    verification = Verification(
        stand.pictures, signer, secrets, stand.artifacts, stand.sessions
    )
    return Place(stand, inspectors, secrets, signer, verification)


async def test_an_unmarked_picture_has_no_marks_and_needs_no_key(place: Place) -> None:
    with calling(ANNA):
        found = await place.verification.verify(InputImage(inline=PICTURE), "image")

    assert found.report.manifest.state is SignatureState.NONE
    assert (found.report.watermark, found.report.parameters, found.session_id) == (0.0, "", "")
    assert list(place.stand.folder.iterdir()) == []


async def test_the_session_is_told_to_its_client_alone(place: Place, tmp_path: Path) -> None:
    data = place.signer.sign(PICTURE, ImageFileFormat.PNG, Made("anothers", "model"))
    path = tmp_path / "made"
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    await place.stand.artifacts.adopt(path, sha256, "anna", session_id="hers")

    with calling(ANNA):
        hers = await place.verification.verify(InputImage(artifact_id=sha256), "image")
    with calling(OTTO):
        his = await place.verification.verify(InputImage(inline=data), "image")

    assert hers.session_id == "hers"
    # What the manifest says is no session that this server knows of.
    assert his.report.manifest.session_id == "anothers"
    assert his.report.manifest.state is SignatureState.TRUSTED
    assert his.session_id == ""


async def test_a_mark_is_found_in_the_middle_of_a_large_picture(place: Place) -> None:
    key = bytes.fromhex(place.secrets.mark_key())
    done = saved(Image.fromarray(add_mark(photograph(256, 1), key)).resize((256, 256)))
    wide = Image.new("RGB", (2400, 2200), "white")
    wide.paste(Image.open(io.BytesIO(done)), (1100, 1000))

    with calling(ANNA):
        found = await place.verification.verify(InputImage(inline=saved(wide)), "image")

    assert found.report.watermark > 0.99


@pytest.mark.parametrize("name", bad_pictures())
def test_what_is_no_picture_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "picture").write_bytes(bad_pictures()[name])

    with pytest.raises(PictureRefused):
        reading.verify(VerifyJob(tmp_path / "picture", Trust(), ()), Listener())


def test_every_good_picture_is_read(tmp_path: Path) -> None:
    for name, data in good_pictures().items():
        (tmp_path / "picture").write_bytes(data)
        found = reading.verify(
            VerifyJob(tmp_path / "picture", Trust(), ("0" * 32,)), Listener()
        )
        assert found.manifest.state is SignatureState.NONE, name
        assert found.watermark < 0.999999, name


async def test_every_failure_is_typed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = InputImage(inline=PICTURE)
    with calling(ANNA):
        place.inspectors.failure = Unavailable("ended", reason=Reason.WORKER_LOST)
        with pytest.raises(InvalidArgument) as caught:
            await place.verification.verify(ask, "image")
        assert caught.value.reason is Reason.IMAGE_UNREADABLE
        assert caught.value.violations[0].field == "image"
        place.inspectors.failure = PictureRefused(Reason.IMAGE_TOO_LARGE, "Too large.")
        with pytest.raises(InvalidArgument) as caught:
            await place.verification.verify(ask, "image")
        assert caught.value.reason is Reason.IMAGE_TOO_LARGE
        with pytest.raises(InvalidArgument) as caught:
            await place.verification.verify(InputImage(), "image")
        assert caught.value.reason is Reason.REQUIRED_FIELD_MISSING
        place.inspectors.failure = Unavailable("full", reason=Reason.STORAGE_UNAVAILABLE)
        with pytest.raises(Unavailable, match="full"):
            await place.verification.verify(ask, "image")

        place.inspectors.failure = None
        place.secrets.mark_key()
        monkeypatch.setattr(SecretsFolder, "_mark_in", _refuse)
        with pytest.raises(SigningUnavailable):
            await place.verification.verify(ask, "image")
        monkeypatch.setattr(manifests, "find_spec", lambda name: None)
        with pytest.raises(ReaderMissing, match="pip install"):
            await place.verification.verify(ask, "image")


def _refuse(self: object, content: bytes, path: Path) -> str:
    from domains.provenance.errors import SignerRefused

    raise SignerRefused("no key")
