"""Steps that a run does itself, from their messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from deviceops.v1 import workflow_pb2
from domains import checks
from domains.clients import caller
from domains.conversions import given, seconds, wished
from domains.errors import DeadlineExceeded, FieldViolation, InvalidArgument, Reason
from domains.limits import LIMITS
from domains.memory.convert.leases import place_from_proto
from domains.memory.core.rules import check_allocation
from domains.memory.types import AllocationRequest, Place
from domains.picture.convert import image_from_proto
from domains.picture.core import check_image
from domains.processing.workflows.core.picture_work import PictureWork
from domains.processing.workflows.core.run_memory import RunMemory
from domains.processing.workflows.types import Ended, Ending

PictureStep = workflow_pb2.VerifyWork | workflow_pb2.StoreWork
OwnWork = PictureStep | workflow_pb2.AllocateMemoryWork | workflow_pb2.FreeMemoryWork


@dataclass(frozen=True)
class OwnMeans:
    """With what a run does steps of its own: pictures looked at and kept, and the memory that
    it holds."""

    pictures: PictureWork
    memory: RunMemory


@dataclass(frozen=True)
class OwnStep:
    """Such a step: its place in the workflow, its name, its message with its inputs, and the
    device that its placement names, empty where that names none."""

    place: int
    step_id: str
    work: OwnWork
    device_id: str


def check_own(step: OwnStep) -> Iterator[FieldViolation]:
    """Every rule that such a step breaks, before anything is looked up."""
    match work := step.work:
        case workflow_pb2.AllocateMemoryWork():
            try:
                check_allocation(_asked(step, work))
            except InvalidArgument as error:
                yield from error.violations
        case workflow_pb2.FreeMemoryWork():
            if not work.allocation_id:
                rule = "Must be set, or bound."
                yield FieldViolation("allocation_id", Reason.REQUIRED_FIELD_MISSING, rule)
        case _:
            yield from _check_pictures(work)


def asked_for(step: OwnStep) -> AllocationRequest | None:
    """The memory that it takes, as a client of CreateAllocation would ask for it: main memory
    where nothing is named. None where it takes none."""
    work = step.work
    return _asked(step, work) if isinstance(work, workflow_pb2.AllocateMemoryWork) else None


def _asked(step: OwnStep, work: workflow_pb2.AllocateMemoryWork) -> AllocationRequest:
    device = Place(step.device_id) if step.device_id else Place()
    return AllocationRequest(
        place=place_from_proto(work.place) or device,
        size_bytes=work.size_bytes,
        lease_seconds=given(work, "lease"),
        label=step.step_id,
    )


def _check_pictures(work: PictureStep) -> Iterator[FieldViolation]:
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


async def do_own(step: OwnStep, means: OwnMeans, run_seconds: float | None) -> Ended:
    """Do such a step for the call's client; of several pictures one after the other.

    Raises:
        InvalidArgument: A rule is broken.
        DeadlineExceeded: It takes longer than `run_seconds`.
        DomainError: What is done raises it.
    """
    InvalidArgument.check(*check_own(step))
    try:
        async with asyncio.timeout(run_seconds):
            return await _done(step, means)
    except TimeoutError:
        raise DeadlineExceeded("The time given to this step is over.") from None


async def _done(step: OwnStep, means: OwnMeans) -> Ended:
    memory = means.memory
    match work := step.work:
        case workflow_pb2.AllocateMemoryWork():
            asked = _asked(step, work)
            taken = await memory.allocate(step.place, caller(), asked, keep=work.keep)
            return Ended(
                Ending.DONE,
                allocation_id=taken.allocation_id,
                device_id=taken.place.device_id,
            )
        case workflow_pb2.FreeMemoryWork():
            await memory.free(caller(), work.allocation_id)
            return Ended(Ending.DONE)
        case _:
            return await _done_with(work, means.pictures)


async def _done_with(work: PictureStep, pictures: PictureWork) -> Ended:
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
