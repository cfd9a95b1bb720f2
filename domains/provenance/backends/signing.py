"""The signer of this server: the operator's, or its own."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from domains.provenance.backends import manifests
from domains.provenance.backends.certificates import (
    Credentials,
    certificates_in,
    credentials_in,
)
from domains.provenance.backends.secrets import SecretsFolder
from domains.provenance.errors import LibraryMissing, SignerRefused
from domains.provenance.types import Made, SignatureState, Trust
from domains.values import ImageFileFormat


class Signer:
    """Signs files; its key is read once. Every method blocks.

    Args:
        secrets: Where this server's own signer lies.
        certificate: The operator's certificates, from the signer's to that of an authority;
            None: this server's own.
        key: The private key that goes with it.
        anchors: Certificates that sign for signers that are trusted beside; None: nobody's.
        version: The program's.
    """

    def __init__(
        self,
        secrets: SecretsFolder,
        certificate: Path | None,
        key: Path | None,
        anchors: Path | None,
        version: str,
    ) -> None:
        self._secrets = secrets
        self._certificate, self._key, self._anchors = certificate, key, anchors
        self._generator = ("device-operations", version)
        self._credentials: Credentials | None = None

    @property
    def installed(self) -> bool:
        """Whether anything can be signed here."""
        return manifests.installed()

    def open(self) -> None:
        """Have the key read, and a picture signed with it on trial.

        Raises:
            LibraryMissing: The extra is not installed.
            SignerRefused: Nothing can be signed with it.
        """
        if self._credentials is not None:
            return
        if not self.installed:
            raise LibraryMissing
        if self._certificate is None or self._key is None:
            pem = self._secrets.signer()
            credentials = credentials_in(pem, pem)
        else:
            credentials = credentials_in(_read(self._key), _read(self._certificate))
        self._try(credentials)
        self._credentials = credentials

    def sign(self, data: bytes, format: ImageFileFormat, made: Made) -> bytes:
        """The same picture with a manifest.

        Raises:
            SignerRefused: It cannot be signed.
        """
        self.open()
        assert self._credentials is not None
        return manifests.signed(
            data, format, made, self._credentials, generator=self._generator
        )

    def trust(self) -> Trust:
        """Whose signatures count: this server's, older ones too, and the operator's choice.

        Raises:
            SignerRefused: A file cannot be read or trusted.
        """
        anchors = self._secrets.authorities()
        if self._certificate is not None:
            anchors += "".join(certificates_in(_read(self._certificate))[-1:])
        if self._anchors is not None:
            anchors += "".join(certificates_in(_read(self._anchors)))
        return Trust(anchors)

    def _try(self, credentials: Credentials) -> None:
        """Sign a picture and read it: the library says only then what it makes of a key."""
        picture = io.BytesIO()
        Image.new("RGB", (8, 8)).save(picture, "PNG")
        done = manifests.signed(
            picture.getvalue(),
            ImageFileFormat.PNG,
            Made(),
            credentials,
            generator=self._generator,
        )
        anchors = Trust(certificates_in(credentials.certificates)[-1])
        found = manifests.read(io.BytesIO(done), "image/png", anchors)
        if found.state is not SignatureState.TRUSTED:
            raise SignerRefused(
                "provenance_certificate: C2PA takes no such certificates: the first must be for"
                " digital signatures (key usage), with an extended key usage such as"
                " emailProtection, and the last must be that of the authority that signed it."
            )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise SignerRefused(f"The file {path} cannot be read: {why}.") from None
