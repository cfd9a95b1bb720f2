"""Provenance, put together; it has no service of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from domains.picture import build as picture_build
from domains.provenance.backends.secrets import SecretsFolder
from domains.provenance.backends.signing import Signer
from domains.provenance.core import Provenance, Verification
from domains.provenance.ports import Artifacts
from domains.session import build as session_build
from domains.values import PictureMarks

__all__ = ["Built", "build"]


class Settings(Protocol):
    """The settings that are read here."""

    @property
    def data_dir(self) -> Path: ...
    @property
    def provenance_manifest(self) -> bool: ...
    @property
    def provenance_watermark(self) -> bool: ...
    @property
    def provenance_certificate(self) -> Path | None: ...
    @property
    def provenance_key(self) -> Path | None: ...
    @property
    def provenance_anchors(self) -> Path | None: ...


@dataclass(frozen=True)
class Built:
    """What other domains need of it."""

    provenance: Provenance
    verification: Verification


def build(
    settings: Settings,
    session: session_build.Built,
    artifacts: Artifacts,
    picture: picture_build.Built,
    *,
    version: str,
) -> Built:
    """Provenance as `settings` describe it; nothing is read yet.

    Args:
        settings: What the operator chose.
        session: What made pictures.
        artifacts: Where they lie.
        picture: Where input pictures come from, and what reads those that nobody vouches for.
        version: The program's.
    """
    secrets = SecretsFolder(settings.data_dir / "provenance")
    signer = Signer(
        secrets,
        settings.provenance_certificate,
        settings.provenance_key,
        settings.provenance_anchors,
        version,
    )
    usual = PictureMarks(settings.provenance_manifest, settings.provenance_watermark)
    verification = Verification(picture.pictures, signer, secrets, artifacts, session.sessions)
    return Built(Provenance(usual, signer, secrets), verification)
