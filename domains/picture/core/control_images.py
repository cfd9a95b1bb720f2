"""Control pictures to look at: a session that makes one and keeps it as an artifact."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import get_args

from domains import checks
from domains.codec import Value
from domains.errors import FeatureNotBuilt, FieldViolation, InvalidArgument, Reason
from domains.finishing import finished
from domains.limits import LIMITS
from domains.picture.core.pictures import KeptPicture, Pictures
from domains.picture.jobs import ControlImageJob
from domains.picture.ports import Artifacts, PictureFiles
from domains.picture.types import (
    OWN_SIZE,
    CannyOptions,
    Canvas,
    ControlOptions,
    ControlPreprocessor,
    FaceMaskOptions,
    InputImage,
    ResizeFit,
)
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.jobs import JobRunner
from domains.session.types import Outcome, Phase, SessionKind, WorkOptions

_QUEUE = "control pictures"
_EDGES = ("width", "height")


@dataclass(frozen=True)
class ControlImageRequest:
    """One call of PreviewControlImage. `digest` stands for the whole request.

    Without `preprocessor` none was named; `unbuilt` names what is set although this version
    does nothing with it. `placed` tells whether a device was named.
    """

    image: InputImage
    preprocessor: ControlPreprocessor | None
    width: int | None
    height: int | None
    options: WorkOptions
    digest: bytes
    placed: bool = False
    unbuilt: tuple[str, ...] = ()


class ControlImages:
    """Makes control pictures, as sessions that need no device.

    Args:
        pictures: Prepares what they are made of.
        inspectors: Make them.
        files: Where they lie meanwhile.
        artifacts: Where finished ones go.
    """

    def __init__(
        self,
        pictures: Pictures,
        inspectors: JobRunner,
        files: PictureFiles,
        artifacts: Artifacts,
    ) -> None:
        self._pictures = pictures
        self._inspectors = inspectors
        self._files = files
        self._artifacts = artifacts

    def preview(self, request: ControlImageRequest) -> SessionRequest:
        """The control picture as a session.

        Preparing it raises:
            InvalidArgument: The content breaks rules, or the picture cannot be used.
            FeatureNotBuilt: The preprocessor needs a model.
            DomainError: The picture is not there, or cannot be stored or read now.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def _prepare(self, request: ControlImageRequest) -> SessionPlan:
        InvalidArgument.check(*_check(request))
        if request.unbuilt:
            raise FeatureNotBuilt(request.unbuilt)
        assert request.preprocessor is not None
        canvas = Canvas(request.width, request.height)
        mask = isinstance(request.preprocessor.options, FaceMaskOptions)
        if mask and request.width is None and request.height is None:
            canvas = OWN_SIZE  # masks have the size of their pictures
        picture = await self._pictures.prepare(
            request.image, "image", canvas, ResizeFit.STRETCH
        )
        return SessionPlan(
            kind=SessionKind.CONTROL_IMAGE,
            device_id="",
            expected_phases=(Phase.QUEUED, Phase.PREPARING_INPUT, Phase.ENCODING_IMAGE),
            work=partial(self._make, picture, request.preprocessor),
            queue=_QUEUE,
        )

    async def _make(
        self, picture: KeptPicture, preprocessor: ControlPreprocessor, session: Session
    ) -> Outcome:
        target = await asyncio.to_thread(self._files.new_target)
        try:
            job = ControlImageJob(picture.prepared, target, preprocessor)
            report = await run_job(self._inspectors, session, job)
            image = await asyncio.to_thread(self._files.measure, target, picture.prepared)
            await self._artifacts.adopt(
                target, image.artifact_id, session.owner, session_id=session.session_id
            )
            session.finish_image(image)
        finally:
            await finished(asyncio.to_thread(self._files.remove, target))
        return Outcome(
            timings={
                Phase.PREPARING_INPUT: report.prepare_input,
                Phase.ENCODING_IMAGE: report.encode_image,
            }
        )


def check_preprocessor(
    preprocessor: ControlPreprocessor, path: str
) -> Iterator[FieldViolation]:
    """Every rule that a preprocessor breaks; `path` is where it stands in the request."""
    yield from _numbers(preprocessor, "ControlPreprocessor", path)
    options = preprocessor.options
    field = f"{path}.{options.field}"
    yield from _numbers(options, type(options).__name__, field)
    if isinstance(options, CannyOptions) and options.low > options.high:
        yield FieldViolation(f"{field}.low", Reason.FIELDS_CONFLICT, "Must not be above high.")


def _check(request: ControlImageRequest) -> Iterator[FieldViolation]:
    yield from check_options(request.options, "options")
    for edge in _EDGES:
        value = getattr(request, edge)
        if value is not None:
            limit = LIMITS[f"PreviewControlImageRequest.{edge}"]
            broken = checks.number(edge, value, limit, reason=Reason.DIMENSIONS_INVALID)
            yield from () if broken is None else (broken,)
    if request.preprocessor is not None:
        yield from check_preprocessor(request.preprocessor, "preprocessor")
    elif not request.unbuilt:
        names = ", ".join(kind.field for kind in get_args(ControlOptions))
        yield FieldViolation(
            "preprocessor", Reason.REQUIRED_FIELD_MISSING, f"Must name one: {names}."
        )
    if request.placed and not request.unbuilt:
        yield FieldViolation(
            "placement",
            Reason.FIELDS_CONFLICT,
            "This preprocessor runs on no device; leave it out.",
        )


def _numbers(values: Value, message: str, path: str) -> Iterator[FieldViolation]:
    for name in values.__struct_fields__:
        limit = LIMITS.get(f"{message}.{name}")
        if limit is not None:
            broken = checks.number(f"{path}.{name}", getattr(values, name), limit)
            yield from () if broken is None else (broken,)
