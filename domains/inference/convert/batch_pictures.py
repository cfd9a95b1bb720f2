"""Items of durable batches that finish a picture and draw none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf.message import Message
from msgspec import structs

from deviceops.v1 import common_pb2
from domains.errors import FeatureNotBuilt, InvalidArgument, NotFound
from domains.picture.convert import image_from_proto
from domains.picture.core import check_image
from domains.processing.batches.types import ItemWork
from domains.session.core.plan import SessionPlan, SessionRequest

# Fields of the request that finishes a picture, and where they come from in the batch's.
_ORIGINS = {
    "steps": "postprocessing",
    "output": "template.output",
    "precision": "template.precision",
}


async def check_given(
    works: Sequence[ItemWork],
    finishing: Callable[[bytes], Message],
    start: Callable[[Message], SessionRequest],
) -> SessionPlan | None:
    """Check pictures that are given, and what is done with them: what finishing the first of
    them comes to, None where none is given.

    All of them are finished in the same way, which is looked at with the first. A picture
    itself is looked at when its turn comes: one that cannot be used fails by itself.

    Args:
        works: Items; those without a picture are left out.
        finishing: The request that finishes a picture.
        start: Makes its session.

    Raises:
        InvalidArgument: With every broken rule, by its field in the batch's request.
        DomainError: Whatever forbids finishing the first of them.
    """
    given = [work for work in works if work.image is not None]
    InvalidArgument.check(
        *(
            broken
            for work in given
            for broken in check_image(
                image_from_proto(common_pb2.InputImage.FromString(work.image or b"")),
                f"{work.path}.image",
            )
        )
    )
    if not given:
        return None
    try:
        return await start(finishing(given[0].image or b"")).prepare()
    except InvalidArgument as error:
        InvalidArgument.check(
            *(
                structs.replace(each, field=_origin(each.field))
                for each in error.violations
                if not each.field.startswith("image")
            )
        )
    except FeatureNotBuilt as error:
        raise FeatureNotBuilt([_origin(field) for field in error.fields]) from error
    except NotFound as error:
        if not error.metadata.get("field", "").startswith("image"):
            raise
    return None


def _origin(field: str) -> str:
    """Where in the batch's request stands what a field of a picture's has."""
    first = field.partition(".")[0].partition("[")[0]
    if first in _ORIGINS:
        return field.replace(first, _ORIGINS[first], 1)
    return field.replace("placement.any", "devices", 1)
