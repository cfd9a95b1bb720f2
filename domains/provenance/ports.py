"""What provenance needs from outside its pure core."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from domains.artifact.types import Artifact
from domains.clients import Caller
from domains.picture.types import InputImage
from domains.provenance.types import Made, Trust
from domains.session.jobs import Job
from domains.values import ImageFileFormat

Report = TypeVar("Report")


class Signer(Protocol):
    """Signs files with this server's key. Every method but `installed` blocks.

    All raise SignerRefused: the key or certificate cannot be used; LibraryMissing is one.
    """

    @property
    def installed(self) -> bool:
        """Whether anything can be signed here."""
        ...

    def open(self) -> None:
        """Have the key read, and tried."""
        ...

    def sign(self, data: bytes, format: ImageFileFormat, made: Made) -> bytes:
        """The same picture with a manifest."""
        ...

    def trust(self) -> Trust:
        """Whose signatures count."""
        ...


class MarkKeys(Protocol):
    """Secrets of invisible marks, in hexadecimal. Every method blocks and raises
    SignerRefused where they cannot be read or made."""

    def mark_key(self) -> str:
        """What pictures are marked with."""
        ...

    def mark_keys(self) -> tuple[str, ...]:
        """What pictures of this server may be marked with."""
        ...


class Sources(Protocol):
    """Input pictures as files."""

    def fetched(
        self, image: InputImage, field: str
    ) -> AbstractAsyncContextManager[tuple[Path, str]]:
        """The file that the call's client names in `field`, and its SHA-256; the file goes
        afterwards. Raises as `Pictures.prepare`."""
        ...

    async def inspect(self, job: Job[Report], kind: type[Report], field: str) -> Report:
        """What an inspector's `job` on such a file comes to, which is of that `kind`. Raises as
        `Pictures.inspect`."""
        ...


class Artifacts(Protocol):
    """The artifact store, as provenance sees it."""

    def get(self, caller: Caller, artifact_id: str) -> Artifact:
        """The artifact without its bytes; raises NotFound."""
        ...
