"""Manifests by the reference library: what they say, what they leave alone, and tampering."""

from __future__ import annotations

import io
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domains.picture.backends.decoding import decode
from domains.provenance.backends import manifests
from domains.provenance.backends.certificates import certificates_in, new_signer
from domains.provenance.backends.secrets import SecretsFolder
from domains.provenance.backends.signing import Signer
from domains.provenance.errors import LibraryMissing, SignerRefused
from domains.provenance.jobs import Manifest
from domains.provenance.types import Made, SignatureState, Trust
from domains.values import ImageFileFormat, OutputSettings
from tests.domains.provenance.drawn import photograph

FORMATS = list(ImageFileFormat)
MADE = Made("0f8fad5b-d9cb-469f-a165-70867728950e", "emoji-xl")


def signer_at(folder: Path, **paths: Path) -> Signer:
    chosen = {"certificate": None, "key": None, "anchors": None} | paths
    return Signer(SecretsFolder(folder), **chosen, version="1.2.3")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    made = signer_at(tmp_path_factory.mktemp("signer") / "provenance")
    made.open()
    return made


def file_of(format: ImageFileFormat) -> bytes:
    data, image = io.BytesIO(), Image.fromarray(photograph(128, 1))
    if format is ImageFileFormat.PNG:
        from PIL.PngImagePlugin import PngInfo

        texts = PngInfo()
        texts.add_text("parameters", "a cat\nSteps: 2")
        image.save(data, "PNG", pnginfo=texts)
    else:
        exif = Image.Exif()
        exif[0x010E] = "a cat"
        image.save(data, format.value, quality=OutputSettings().quality, exif=exif)
    return data.getvalue()


def read(data: bytes, format: ImageFileFormat, trust: Trust) -> Manifest:
    return manifests.read(io.BytesIO(data), f"image/{format.value}", trust)


@pytest.mark.parametrize("format", FORMATS)
def test_a_manifest_says_that_a_model_made_it(signer: Signer, format: ImageFileFormat) -> None:
    import c2pa  # type: ignore[import-untyped]

    data = file_of(format)

    done = signer.sign(data, format, MADE)

    found = read(done, format, signer.trust())
    assert found.state is SignatureState.TRUSTED
    assert found.signer == "device-operations signer"
    assert found.generator == "device-operations 1.2.3"
    assert found.session_id == MADE.session_id
    assert found.sign_time is not None
    assert abs(datetime.now(UTC) - found.sign_time) < timedelta(minutes=5)
    assert read(done, format, Trust()).state is SignatureState.UNKNOWN_SIGNER
    assert read(data, format, signer.trust()) == Manifest()
    # The library's own words, and nothing that was not said.
    told = c2pa.Reader(f"image/{format.value}", io.BytesIO(done)).get_active_manifest()
    by_label = {each["label"]: each["data"] for each in told["assertions"]}
    (action,) = by_label["c2pa.actions.v2"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert by_label[manifests.GENERATION] == {
        "session_id": MADE.session_id,
        "model_id": "emoji-xl",
    }
    assert "thumbnail" not in told


@pytest.mark.parametrize("format", FORMATS)
def test_a_manifest_leaves_pixels_and_texts_alone(
    signer: Signer, format: ImageFileFormat
) -> None:
    data = file_of(format)

    done = signer.sign(data, format, Made())

    before, after = (Image.open(io.BytesIO(each)) for each in (data, done))
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert before.getexif() == after.getexif()
    assert before.info.get("parameters") == after.info.get("parameters")
    assert len(done) - len(data) < 6_000


@pytest.mark.parametrize("format", FORMATS)
def test_any_changed_byte_of_the_pixels_is_found(
    signer: Signer, format: ImageFileFormat
) -> None:
    done = signer.sign(file_of(format), format, MADE)
    trust = signer.trust()
    begin = len(done) // 2  # the manifest stands before, or at the very end
    places = range(begin, len(done) - 5_000, 97)
    assert len(places) > 20

    for place in places:
        changed = bytearray(done)
        changed[place] ^= 1
        assert read(bytes(changed), format, trust).state is SignatureState.BROKEN, place


def test_a_manifest_on_another_picture_is_found_out(signer: Signer) -> None:
    """All of the chunk that holds it, put into a PNG of other pixels."""
    done = signer.sign(file_of(ImageFileFormat.PNG), ImageFileFormat.PNG, MADE)
    begin = done.index(b"caBX") - 4
    held = done[begin : begin + 12 + int.from_bytes(done[begin : begin + 4], "big")]
    other = io.BytesIO()
    Image.fromarray(photograph(128, 2)).save(other, "PNG")
    forged = other.getvalue()[:33] + held + other.getvalue()[33:]
    decode(io.BytesIO(forged))  # a good picture

    found = read(forged, ImageFileFormat.PNG, signer.trust())

    assert found.state is SignatureState.BROKEN


def test_a_damaged_manifest_is_broken_and_no_error(signer: Signer) -> None:
    done = bytearray(signer.sign(file_of(ImageFileFormat.PNG), ImageFileFormat.PNG, MADE))
    begin = done.index(b"caBX")
    done[begin + 40 : begin + 200] = bytes(160)

    found = read(bytes(done), ImageFileFormat.PNG, signer.trust())

    assert found.state is SignatureState.BROKEN


def test_a_signer_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "provenance"
    first = signer_at(folder)
    first.open()
    done = first.sign(file_of(ImageFileFormat.PNG), ImageFileFormat.PNG, MADE)
    path = folder / "signer.pem"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert path.read_bytes().count(b"PRIVATE KEY") == 2  # one: its beginning and its end

    again = signer_at(folder)
    again.open()

    assert read(done, ImageFileFormat.PNG, again.trust()).state is SignatureState.TRUSTED


def test_a_renamed_signer_makes_room_and_is_trusted_still(tmp_path: Path) -> None:
    format = ImageFileFormat.PNG
    old = signer_at(tmp_path).sign(file_of(format), format, MADE)
    (tmp_path / "signer.pem").rename(tmp_path / "until-2026.pem")

    fresh = signer_at(tmp_path)
    new = fresh.sign(file_of(format), format, MADE)

    trust = fresh.trust()
    assert len(certificates_in(trust.anchors.encode())) == 2
    assert read(old, format, trust).state is SignatureState.TRUSTED
    assert read(new, format, trust).state is SignatureState.TRUSTED
    (tmp_path / "until-2026.pem").unlink()
    assert read(old, format, fresh.trust()).state is SignatureState.UNKNOWN_SIGNER


@pytest.fixture
def operators(tmp_path: Path) -> dict[str, Path]:
    """A key and certificate as an operator brings them, from an authority of theirs."""
    pem = new_signer()
    key, _, rest = pem.partition(b"-----BEGIN CERT")
    paths = {"key": tmp_path / "key.pem", "certificate": tmp_path / "chain.pem"}
    paths["key"].write_bytes(key)
    paths["certificate"].write_bytes(b"-----BEGIN CERT" + rest)
    return paths


def test_the_operators_signer_is_used_and_trusted(
    tmp_path: Path, operators: dict[str, Path]
) -> None:
    format, folder = ImageFileFormat.WEBP, tmp_path / "data"
    theirs = signer_at(folder, **operators)

    done = theirs.sign(file_of(format), format, MADE)

    assert not folder.exists()
    assert read(done, format, theirs.trust()).state is SignatureState.TRUSTED
    # Another server trusts it once it knows who signed for it.
    anchors = tmp_path / "anchors.pem"
    anchors.write_text(certificates_in(operators["certificate"].read_bytes())[1])
    other = signer_at(folder)
    assert read(done, format, other.trust()).state is SignatureState.UNKNOWN_SIGNER
    other = signer_at(folder, anchors=anchors)
    assert read(done, format, other.trust()).state is SignatureState.TRUSTED


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("key", b"nothing", "no private key"),
        ("certificate", b"nothing", "no certificate"),
        ("certificate", None, "does not belong"),
        ("key", "gone", "cannot be read"),
    ],
)
def test_a_signer_that_is_no_use_says_why(
    tmp_path: Path,
    operators: dict[str, Path],
    name: str,
    content: bytes | str | None,
    what: str,
) -> None:
    if content == "gone":
        operators[name].unlink()
    else:
        operators[name].write_bytes(new_signer() if content is None else content)

    with pytest.raises(SignerRefused, match=what):
        signer_at(tmp_path / "data", **operators).open()


def test_a_certificate_that_c2pa_does_not_take_is_refused(
    tmp_path: Path, operators: dict[str, Path]
) -> None:
    """One that signed itself, as many have for TLS."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    key = serialization.load_pem_private_key(operators["key"].read_bytes(), None)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "self")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    built = built.public_key(key.public_key()).serial_number(1)  # type: ignore[arg-type]
    built = built.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    made = built.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    operators["certificate"].write_bytes(made.public_bytes(serialization.Encoding.PEM))

    with pytest.raises(SignerRefused, match="provenance_certificate"):
        signer_at(tmp_path / "data", **operators).open()


@pytest.mark.skipif(os.name != "posix", reason="modes are posix")
@pytest.mark.parametrize("name", ["signer.pem", "mark.key"])
def test_a_secret_that_is_open_to_others_is_refused(tmp_path: Path, name: str) -> None:
    secrets = SecretsFolder(tmp_path)
    secrets.signer(), secrets.mark_key()
    (tmp_path / name).chmod(0o644)

    with pytest.raises(SignerRefused, match="open to them"):
        secrets.signer() if name == "signer.pem" else secrets.mark_key()


def test_keys_of_marks_are_kept_and_old_ones_known(tmp_path: Path) -> None:
    secrets = SecretsFolder(tmp_path / "new")
    assert secrets.mark_keys() == ()

    first = secrets.mark_key()
    assert secrets.mark_key() == first
    (tmp_path / "new" / "mark.key").rename(tmp_path / "new" / "old.key")
    second = secrets.mark_key()

    assert second != first
    assert set(secrets.mark_keys()) == {first, second}
    (tmp_path / "new" / "mark.key").write_text("none")
    with pytest.raises(SignerRefused, match="32 hexadecimal digits"):
        secrets.mark_key()


def test_a_secret_that_many_need_at_once_is_one(tmp_path: Path) -> None:
    secrets = SecretsFolder(tmp_path)

    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: secrets.signer(), range(8)))

    assert made == {(tmp_path / "signer.pem").read_bytes()}


def test_without_the_library_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "find_spec", lambda name: None)
    made = signer_at(tmp_path)

    assert not made.installed
    with pytest.raises(LibraryMissing, match=r"pip install 'device-operations\[provenance\]'"):
        made.open()
    assert not (tmp_path / "signer.pem").exists()
