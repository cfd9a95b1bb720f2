"""The rules that requests about batches keep, but for what their items draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from domains import checks
from domains.device.core.placement import check_placement
from domains.errors import DomainError, FieldViolation, Reason
from domains.limits import LIMITS, Limit
from domains.processing.batches.types import BatchRequest, ItemWork, Manner
from domains.session.core.options import check_options

_ITEM_ID = LIMITS["BatchItem.item_id"]


def broken_batch(request: BatchRequest) -> Iterator[FieldViolation | None]:
    """Every rule that a new batch breaks."""
    yield from check_options(request.options, "options")
    yield from _manner(request.manner)
    if request.matrix and request.items:
        rule = "Set items or a matrix, not both."
        yield FieldViolation("matrix", Reason.FIELDS_CONFLICT, rule)
    yield from broken_items(request.items, LIMITS["CreateBatchRequest.items"])


def broken_items(items: Sequence[ItemWork], most: Limit) -> Iterator[FieldViolation | None]:
    """Every rule that the items of one call break."""
    if too_many := checks.elements("items", len(items), most):
        yield too_many
        return
    first: dict[str, int] = {}
    for at, item in enumerate(items):
        yield from checks.item_id(at, item.path, item.item_id, _ITEM_ID, first)


def no_items() -> FieldViolation:
    """The rule that a batch breaks that is sealed and empty."""
    rule = "Must have at least one element, unless there is a matrix or keep_open."
    return FieldViolation("items", Reason.FIELD_OUT_OF_RANGE, rule)


def in_devices(path: str) -> str:
    """Where in a batch's request stands what an item's own has in its placement."""
    return path.replace("placement.any", "devices", 1)


def name_devices(error: DomainError) -> None:
    """Have an error about a placement name the field of the batch's request."""
    if field := error.metadata.get("field"):
        error.metadata["field"] = in_devices(field)


def _manner(manner: Manner) -> Iterator[FieldViolation | None]:
    for broken in check_placement(manner.devices, "placement."):
        yield replace(broken, field=in_devices(broken.field))
    numbers = (
        ("item_run_timeout", manner.item_run_seconds, "CreateBatchRequest.item_run_timeout"),
        ("max_failures", manner.max_failures, "CreateBatchRequest.max_failures"),
        ("max_parallel", manner.max_parallel, "CreateBatchRequest.max_parallel"),
        ("retry.max_attempts", manner.retry.max_attempts, "RetrySettings.max_attempts"),
        ("retry.backoff", manner.retry.backoff_seconds, "RetrySettings.backoff"),
    )
    for field, value, limit in numbers:
        if value is not None:
            yield checks.number(field, value, LIMITS[limit])
