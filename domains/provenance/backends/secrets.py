"""What this server signs and marks with, in its data folder: made when it is first needed.

`signer.pem` holds a private key, the certificate that goes with it, and the certificate of the
authority that signed that one, whose own key was never written, so that it signs no other.
`mark.key` holds the secret of the invisible mark. The authorities of all `.pem` files in the
folder are trusted, and marks of all `.key` files are looked for: a secret that is renamed makes
room for a new one, and what it signed and marked is still known.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from domains.private_folders import FolderRefused, prepare
from domains.provenance.backends.certificates import certificates_in, new_signer
from domains.provenance.errors import SignerRefused
from domains.regular_files import NotRegular, open_regular
from domains.whole_files import whole_file

_SIGNER = "signer.pem"
_MARK = "mark.key"
_MARK_BYTES = 16
_MARK_TEXT = re.compile(r"[0-9a-f]{32}")
_MOST_FILES = 16
_MOST_BYTES = 65_536
_log = logging.getLogger("deviceops.provenance")


class SecretsFolder:
    """The folder; every method blocks on the disk.

    Args:
        folder: Made when something is put there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._making = threading.Lock()

    def signer(self) -> bytes:
        """PEM of a private key and its certificates.

        Raises:
            SignerRefused: It cannot be made, read or trusted.
        """
        return self._secret(_SIGNER, new_signer)

    def mark_key(self) -> str:
        """What pictures are marked with, in hexadecimal.

        Raises:
            SignerRefused: It cannot be made, read or trusted.
        """
        text = self._secret(_MARK, lambda: secrets.token_hex(_MARK_BYTES).encode())
        return self._mark_in(text, self._folder / _MARK)

    def mark_keys(self) -> tuple[str, ...]:
        """What pictures of this server may be marked with.

        Raises:
            SignerRefused: One cannot be read or trusted.
        """
        return tuple(self._mark_in(self._read(path), path) for path in self._files("*.key"))

    def authorities(self) -> str:
        """PEM of those that signed for what this server has signed with.

        Raises:
            SignerRefused: One cannot be read or trusted.
        """
        held = (certificates_in(self._read(path)) for path in self._files("*.pem"))
        return "".join(certificates[-1] for certificates in held if certificates)

    def _files(self, pattern: str) -> list[Path]:
        return sorted(self._folder.glob(pattern))[:_MOST_FILES]

    def _secret(self, name: str, make: Callable[[], bytes]) -> bytes:
        path = self._folder / name
        try:
            with self._making:
                prepare(self._folder)
                if not os.path.lexists(path):
                    with whole_file(path) as file:
                        file.write(make())
                    _log.info("%s was made", name)
        except FolderRefused as error:
            raise SignerRefused(str(error)) from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise SignerRefused(f"The file {path} cannot be made: {why}.") from None
        return self._read(path)

    def _read(self, path: Path) -> bytes:
        try:
            with open(open_regular(path), "rb") as file:
                status = os.fstat(file.fileno())
                if os.name == "posix" and (
                    status.st_uid not in (os.geteuid(), 0)
                    or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
                ):
                    raise SignerRefused(
                        f"The file {path} belongs to others or is open to them: allow the"
                        " server's user alone (chown, chmod 600), or move it away for a new"
                        " one."
                    )
                return file.read(_MOST_BYTES)
        except NotRegular:
            raise SignerRefused(
                f"{path} is no regular file; move it away for a new one."
            ) from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise SignerRefused(f"The file {path} cannot be read: {why}.") from None

    def _mark_in(self, content: bytes, path: Path) -> str:
        text = content.decode("ascii", "replace").strip()
        if not _MARK_TEXT.fullmatch(text):
            raise SignerRefused(
                f"The file {path} does not hold 32 hexadecimal digits; move it away for a new"
                " one."
            )
        return text
