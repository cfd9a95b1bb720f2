"""Items of a batch made ready: errors name the fields of the batch's request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from msgspec.structs import replace

from domains.errors import DomainError, FeatureNotBuilt, FieldViolation, InvalidArgument
from domains.inference.core.preparing import GenerationPreparer, PreparedGeneration
from domains.inference.errors import InvalidGeneration
from domains.inference.ports import PicturePreparer
from domains.inference.types.batches import BatchItem

T = TypeVar("T")
_AT_ONCE = 16  # items between two moments for others; each takes a fraction of a millisecond


async def each_prepared(
    preparer: GenerationPreparer,
    items: Iterable[BatchItem],
    pictures: PicturePreparer,
    wanted: Callable[[PreparedGeneration], T],
) -> list[T]:
    """What is wanted of every item once it is ready.

    Raises:
        InvalidGeneration: With every rule that one of them breaks.
        DomainError: As preparing any of them does.
    """
    broken: dict[FieldViolation, None] = {}  # the template's would come with every item
    every: list[T] = []
    for at, item in enumerate(items, 1):
        try:
            with items_fields(item):
                every.append(wanted(await preparer.prepare(item.request, pictures)))
        except InvalidArgument as error:
            broken |= dict.fromkeys(error.violations)
        if at % _AT_ONCE == 0:
            await asyncio.sleep(0)
    if broken:
        raise InvalidGeneration.of(*broken)
    return every


@contextmanager
def items_fields(item: BatchItem) -> Iterator[None]:
    """Errors that are raised meanwhile, about the item's own request, name the fields where
    they stand in the batch's."""
    try:
        yield
    except InvalidArgument as error:
        if not error.violations:
            raise
        raise InvalidGeneration.of(
            *(replace(each, field=item.origin(each.field)) for each in error.violations)
        ) from error
    except FeatureNotBuilt as error:
        raise FeatureNotBuilt([item.origin(field) for field in error.fields]) from error
    except DomainError as error:
        field = error.metadata.get("field")
        if field is not None:
            error.metadata["field"] = item.origin(field)
            error.message = error.message.replace(field, error.metadata["field"])
        raise
