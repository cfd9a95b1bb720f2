"""Steps that a run does itself, from their messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from deviceops.v1 import workflow_pb2
from domains import checks
from domains.conversions import seconds, wished
from domains.errors import DeadlineExceeded, FieldViolation, InvalidArgument, Reason
from domains.limits import LIMITS
from domains.picture.convert import image_from_proto
from domains.picture.core import check_image
from domains.processing.workflows.core.picture_work import PictureWork
from domains.processing.workflows.types import Ended, Ending

OwnWork = workflow_pb2.VerifyWork | workflow_pb2.StoreWork


def check_own(work: OwnWork) -> Iterator[FieldViolation]:
    """Every rule that the pictures of such a step break, before anything is looked up."""
    if not work.images:
        rule = "Must be set, or bound."
        yield FieldViolation("images", Reason.REQUIRED_FIELD_MISSING, rule)
    limit = LIMITS[f"{work.DESCRIPTOR.name}.images"]
    too_many = checks.elements("images", len(work.images), limit)
    if too_many is not None:
        yield too_many
        return
    for place, image in enumerate(work.images):
        field = f"images[{place}]"
        yield from check_image(image_from_proto(image), field)
        if isinstance(work, workflow_pb2.StoreWork) and image.HasField("inline"):
            rule = "Is kept nowhere: upload it, and name the artifact."
            yield FieldViolation(f"{field}.inline", Reason.FIELDS_CONFLICT, rule)


async def do_own(work: OwnWork, pictures: PictureWork, run_seconds: float | None) -> Ended:
    """Do such a step for the call's client, one picture after the other.

    Raises:
        InvalidArgument: A rule is broken.
        DeadlineExceeded: It takes longer than `run_seconds`.
        DomainError: What is done with a picture raises it.
    """
    InvalidArgument.check(*check_own(work))
    try:
        async with asyncio.timeout(run_seconds):
            return await _done(work, pictures)
    except TimeoutError:
        raise DeadlineExceeded("The time given to this step is over.") from None


async def _done(work: OwnWork, pictures: PictureWork) -> Ended:
    named = [(image_from_proto(image), f"images[{at}]") for at, image in enumerate(work.images)]
    if isinstance(work, workflow_pb2.VerifyWork):
        trusted = [await pictures.trusted(image, field) for image, field in named]
        return Ended(Ending.DONE, trusted=all(trusted))
    kept = [
        await pictures.keep(
            image,
            field,
            pinned=wished(work, "pinned"),
            retention_seconds=wished(work, "retention", seconds),
            labels=dict(work.labels),
        )
        for image, field in named
    ]
    return Ended(Ending.DONE, tuple(kept))
