"""Errors about an item of a batch name the fields of the batch's request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from domains.errors import DomainError, FeatureNotBuilt, InvalidArgument
from domains.inference.errors import InvalidGeneration
from domains.inference.types.batches import BatchItem


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
