"""From what a client names to a picture that work can take; bad ones end here, by field."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from domains import checks
from domains.clients import Caller, caller
from domains.errors import DomainError, FieldViolation, NotFound, Reason
from domains.finishing import finished
from domains.limits import LIMITS
from domains.picture.errors import InvalidPicture, PictureNotFound
from domains.picture.jobs import MetadataWish, PictureJob, PictureReport
from domains.picture.ports import Artifacts, PictureFiles
from domains.picture.types import (
    MOST_BYTES,
    Canvas,
    ControlPreprocessor,
    InputImage,
    PictureFile,
    PreparedPicture,
    ResizeFit,
)
from domains.session.core.sessions import Sessions
from domains.session.jobs import Job, JobRunner

Report = TypeVar("Report")

_AT_ONCE = 2
# A picture within the limits takes seconds; what takes longer was made to.
_LONGEST_SECONDS = 60.0
# What ends a decoder without an answer, whoever is to blame.
_ENDINGS = frozenset({Reason.WORKER_LOST, Reason.WORKER_HUNG, Reason.DEADLINE_EXPIRED})
_REFUSALS = frozenset(
    {Reason.IMAGE_UNREADABLE, Reason.IMAGE_TOO_LARGE, Reason.IMAGE_FORMAT_UNSUPPORTED}
)


class KeptPicture:
    """A prepared picture; its file goes when nobody holds this any more.

    Args:
        prepared: Its pixels.
        file: Which file they come from.
        report: What the inspector said of it.
        remove: Deletes the pixels.
    """

    def __init__(
        self,
        prepared: PreparedPicture,
        file: PictureFile,
        report: PictureReport,
        remove: Callable[[Path], None],
    ) -> None:
        self.prepared = prepared
        self.file = file
        self.report = report
        weakref.finalize(self, remove, prepared.path)


class Pictures:
    """Prepares input pictures, two at once and one of each client.

    Args:
        artifacts: Where uploaded pictures lie.
        sessions: Whose pictures may be named.
        inspectors: Decode them, in processes of their own.
        files: Where they lie meanwhile.
    """

    def __init__(
        self,
        artifacts: Artifacts,
        sessions: Sessions,
        inspectors: JobRunner,
        files: PictureFiles,
    ) -> None:
        self._artifacts = artifacts
        self._sessions = sessions
        self._inspectors = inspectors
        self._files = files
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    async def start(self) -> None:
        """Delete what an earlier server left."""
        await asyncio.to_thread(self._files.sweep)

    async def prepare(
        self,
        image: InputImage,
        field: str,
        canvas: Canvas,
        fit: ResizeFit,
        *,
        control: ControlPreprocessor | None = None,
        grey: bool = False,
        keep_alpha: bool = False,
        metadata: MetadataWish | None = None,
    ) -> KeptPicture:
        """Decode the picture that a call's client names in `field`, in the canvas's size, and
        make a control picture of it where `control` says how; of a `grey` one the brightness
        alone counts. What is transparent shows white, unless `keep_alpha` says otherwise.
        The report has what `metadata` wants.

        Raises:
            InvalidPicture: IMAGE_UNREADABLE, IMAGE_TOO_LARGE, IMAGE_FORMAT_UNSUPPORTED, or
                what `check_image` finds.
            NotFound: ARTIFACT_NOT_FOUND or SESSION_NOT_FOUND; the metadata names the field.
            DomainError: It cannot be stored or read now.
        """
        async with self.fetched(image, field) as (source, sha256):
            job = partial(
                PictureJob,
                source,
                canvas=canvas,
                fit=fit,
                control=control,
                grey=grey,
                keep_alpha=keep_alpha,
                metadata=metadata,
            )
            prepared, report = await self._decode(
                job, field, canvas, grey=grey, keep_alpha=keep_alpha
            )
        named = PictureFile(sha256, artifact=image.inline is None)
        return KeptPicture(prepared, named, report, self._files.remove)

    @asynccontextmanager
    async def fetched(self, image: InputImage, field: str) -> AsyncIterator[tuple[Path, str]]:
        """The file that a call's client names in `field`, as it is, and its SHA-256: an
        inspector may read it while this client's turn lasts, and then it goes.

        Raises:
            InvalidPicture: What `check_image` finds, or IMAGE_TOO_LARGE.
            NotFound: ARTIFACT_NOT_FOUND or SESSION_NOT_FOUND; the metadata names the field.
            DomainError: It cannot be stored or read now.
        """
        InvalidPicture.check(*check_image(image, field))
        client = caller()
        turn = self._turns.setdefault(client.name, asyncio.Lock())
        source = await asyncio.to_thread(self._files.new_source)
        try:
            async with turn, self._room:
                yield source, await self._fetch(client, image, field, source)
        finally:
            await finished(asyncio.to_thread(self._files.remove, source))

    async def _fetch(self, client: Caller, image: InputImage, field: str, source: Path) -> str:
        """Have the file's bytes at `source`; their SHA-256."""
        if image.inline is not None:
            await asyncio.to_thread(self._files.append, source, image.inline)
            return hashlib.sha256(image.inline).hexdigest()
        try:
            artifact_id = self.artifact_of(image, field)
            size_bytes = self._artifacts.get(client, artifact_id).size_bytes
            if size_bytes > MOST_BYTES:
                rule = f"Must have at most {MOST_BYTES} bytes; send it smaller."
                raise InvalidPicture.at(field, Reason.IMAGE_TOO_LARGE, rule)
            if not await self._artifacts.link(client, artifact_id, source):
                async with aclosing(self._artifacts.read(client, artifact_id)) as chunks:
                    async for data in chunks:
                        await asyncio.to_thread(self._files.append, source, data)
        except NotFound as error:
            error.metadata.setdefault("field", field)
            raise
        return artifact_id

    def artifact_of(self, image: InputImage, field: str) -> str:
        """The id of the artifact that a call's client names in `field`, not inline.

        Raises:
            NotFound: ARTIFACT_NOT_FOUND or SESSION_NOT_FOUND: a session has no such picture.
        """
        return image.artifact_id or self._finished(caller(), image, field)

    def _finished(self, client: Caller, image: InputImage, field: str) -> str:
        """The artifact of a session's finished picture."""
        session = self._sessions.get(image.session_id, client)
        for done in session.images:
            if done.image_index == image.image_index and not done.withheld:
                return done.artifact_id
        raise PictureNotFound(field, image.session_id, image.image_index)

    async def _decode(
        self,
        job: Callable[[Path], PictureJob],
        field: str,
        canvas: Canvas,
        *,
        grey: bool,
        keep_alpha: bool,
    ) -> tuple[PreparedPicture, PictureReport]:
        target = await asyncio.to_thread(self._files.new_target)
        try:
            report = await self.inspect(job(target), PictureReport, field)
            size = canvas.size_for(report.source_width, report.source_height)
            if (report.width, report.height) != size or (report.alpha and not keep_alpha):
                raise InvalidPicture.at(field, Reason.IMAGE_UNREADABLE, _BROKE)
            take = partial(self._files.take, target, report, grey=grey)
            return await asyncio.to_thread(take), report
        finally:
            await finished(asyncio.to_thread(self._files.remove, target))

    async def inspect(self, job: Job[Report], kind: type[Report], field: str) -> Report:
        """Have an inspector do `job`, whose report is of that `kind`, on a fetched file.

        Raises:
            InvalidPicture: IMAGE_UNREADABLE, IMAGE_TOO_LARGE or IMAGE_FORMAT_UNSUPPORTED.
            DomainError: There is no room for it now.
        """
        begun = time.monotonic()
        name = f"picture-{uuid.uuid4()}"
        try:
            run = self._inspectors.run("", name, job, remaining=_LONGEST_SECONDS)
            async with aclosing(run) as outcomes:
                async for outcome in outcomes:
                    if isinstance(outcome, kind):
                        return outcome
        except DomainError as error:
            if error.reason in _REFUSALS:
                raise InvalidPicture.at(field, error.reason, error.message) from error
            if error.reason in _ENDINGS:
                seconds = time.monotonic() - begun
                rule = f"{_BROKE} It took {seconds:.0f} seconds."
                raise InvalidPicture.at(field, Reason.IMAGE_UNREADABLE, rule) from error
            raise
        raise InvalidPicture.at(field, Reason.IMAGE_UNREADABLE, _BROKE)


_BROKE = (
    "Made what reads it end without an answer: it may be damaged on purpose, or the machine be "
    "short of memory. Save it anew, or send another."
)


def check_image(image: InputImage, field: str) -> list[FieldViolation]:
    """Rules that what names a picture must keep, before anything is looked up."""
    if image.inline is not None:
        limit = LIMITS["InputImage.inline"]
        broken = checks.size(
            f"{field}.inline", len(image.inline), limit, reason=Reason.IMAGE_TOO_LARGE
        )
    elif image.session_id:
        limit = LIMITS["SessionImage.image_index"]
        broken = checks.number(f"{field}.session_image.image_index", image.image_index, limit)
    elif image.artifact_id:
        broken = checks.sha256(f"{field}.artifact_id", image.artifact_id)
    else:
        broken = FieldViolation(
            field,
            Reason.REQUIRED_FIELD_MISSING,
            "Must hold a picture: inline, artifact_id or session_image.",
        )
    return [] if broken is None else [broken]
