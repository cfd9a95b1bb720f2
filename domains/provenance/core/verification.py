"""Reading a picture's marks, in a process of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from domains.clients import caller
from domains.errors import NotFound
from domains.picture.types import InputImage
from domains.provenance.errors import ReaderMissing, SignerRefused, unavailable
from domains.provenance.jobs import VerifyJob, VerifyReport
from domains.provenance.ports import Artifacts, MarkKeys, Signer, Sources
from domains.provenance.types import SignatureState
from domains.session.core.sessions import Sessions


@dataclass(frozen=True)
class Verified:
    """What a picture's marks say, and the session of the client's that made it; empty where
    this server does not know."""

    report: VerifyReport
    session_id: str


class Verification:
    """Reads marks.

    Args:
        sources: Where pictures are, and what reads them, in processes of their own.
        signer: Whose signatures count.
        keys: What this server marks with.
        artifacts: What this server made.
        sessions: What made it.
    """

    def __init__(
        self,
        sources: Sources,
        signer: Signer,
        keys: MarkKeys,
        artifacts: Artifacts,
        sessions: Sessions,
    ) -> None:
        self._sources = sources
        self._signer = signer
        self._keys = keys
        self._artifacts = artifacts
        self._sessions = sessions

    async def verify(self, image: InputImage, field: str) -> Verified:
        """What the marks of the picture say that a call's client names in `field`.

        Raises:
            InvalidPicture: IMAGE_UNREADABLE, IMAGE_TOO_LARGE, IMAGE_FORMAT_UNSUPPORTED, or it
                names none.
            NotFound: ARTIFACT_NOT_FOUND or SESSION_NOT_FOUND; the metadata names the field.
            ReaderMissing: Manifests cannot be read here.
            SigningUnavailable: What this server signs or marks with cannot be read.
        """
        if not self._signer.installed:
            raise ReaderMissing
        async with self._sources.fetched(image, field) as (path, sha256):
            job = await asyncio.to_thread(self._job, path)
            report = await self._sources.inspect(job, VerifyReport, field)
        return Verified(report, self._session_of(sha256, report))

    def _job(self, path: Path) -> VerifyJob:
        try:
            return VerifyJob(path, self._signer.trust(), self._keys.mark_keys())
        except SignerRefused as error:
            raise unavailable(error) from error

    def _session_of(self, sha256: str, report: VerifyReport) -> str:
        """By its bytes, which nobody can claim; else by what a trusted signer says."""
        client = caller()
        try:
            made = self._artifacts.get(client, sha256).session_ids
            if made:
                return made[0]
        except NotFound:
            pass
        told = report.manifest
        if told.state is not SignatureState.TRUSTED or not told.session_id:
            return ""
        try:
            return self._sessions.get(told.session_id, client).session_id
        except NotFound:
            return ""
