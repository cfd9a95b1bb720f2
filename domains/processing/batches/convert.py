"""Batches between proto and domain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deviceops.v1 import batch_pb2, common_pb2, generation_pb2, session_pb2
from domains.conversions import EnumMap, digest, duration, given, timestamp, wished
from domains.device.convert import choice_from_proto
from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.processing.batches.core.control import BatchFilter
from domains.processing.batches.ports import BatchNames
from domains.processing.batches.types import (
    BatchRequest,
    BatchStatus,
    Computation,
    ItemStatus,
    ItemWork,
    Manner,
    Retry,
)
from domains.session.convert import (
    STATES,
    failure_to_proto,
    image_to_proto,
    options_from_proto,
    options_to_proto,
)
from domains.session.convert.named import named_in
from domains.session.types import SessionState
from domains.session.types.named import Named

COMPUTATIONS = EnumMap(Computation, generation_pb2.BatchComputation, "BATCH_COMPUTATION_")


def batch_from_proto(message: batch_pb2.CreateBatchRequest) -> BatchRequest:
    """One call of CreateBatch, unchecked.

    Raises:
        InvalidArgument: options.on_disconnect is set.
    """
    if message.options.on_disconnect:
        rule = "Must be unset: nothing ends a batch but its end and CancelBatch."
        violation = FieldViolation("options.on_disconnect", Reason.FIELDS_CONFLICT, rule)
        raise InvalidArgument.of(violation)
    common = batch_pb2.CreateBatchRequest()
    common.CopyFrom(message)
    common.ClearField("items")
    return BatchRequest(
        template=common.SerializeToString(deterministic=True),
        items=items_from_proto(message.items),
        matrix=message.HasField("matrix"),
        keep_open=message.keep_open,
        manner=_manner(message),
        options=options_from_proto(message.options),
        digest=digest(message),
    )


def _manner(message: batch_pb2.CreateBatchRequest) -> Manner:
    return Manner(
        devices=choice_from_proto(message.devices, "devices"),
        item_run_seconds=given(message, "item_run_timeout"),
        max_failures=wished(message, "max_failures"),
        max_parallel=wished(message, "max_parallel"),
        retry=Retry(int(given(message.retry, "max_attempts")), given(message.retry, "backoff")),
        computation=COMPUTATIONS.from_proto(
            message.computation, Computation.EXACT, field="computation"
        ),
    )


def items_from_proto(items: Iterable[batch_pb2.BatchItem]) -> tuple[ItemWork, ...]:
    """The items of a call, unchecked."""
    return tuple(_works(items))


def _works(items: Iterable[batch_pb2.BatchItem]) -> Iterator[ItemWork]:
    for at, item in enumerate(items):
        path = f"items[{at}]"
        if item.HasField("image"):
            image = item.image.SerializeToString(deterministic=True)
            yield ItemWork(item.item_id, b"", path, image)
            continue
        overlay = item.overlay.SerializeToString(deterministic=True)
        yield ItemWork(item.item_id, overlay, path)


def _named_in_request(template: bytes) -> Named:
    return named_in(batch_pb2.CreateBatchRequest.FromString(template))


def _named_in_item(work: ItemWork) -> Named:
    if work.image is not None:
        return named_in(common_pb2.InputImage.FromString(work.image))
    return named_in(generation_pb2.GenerationOverlay.FromString(work.overlay or b""))


NAMES = BatchNames(_named_in_request, _named_in_item)
"""A combination of a matrix names nothing by itself: the request has what its axes name."""


def states_from_proto(
    states: Iterable[session_pb2.SessionState.ValueType], field: str
) -> frozenset[SessionState]:
    """The states that are wanted; UNSPECIFIED is none.

    Raises:
        InvalidArgument: ENUM_VALUE_UNKNOWN.
    """
    found = (
        STATES.optional_from_proto(number, field=f"{field}[{at}]")
        for at, number in enumerate(states)
    )
    return frozenset(state for state in found if state)


def filter_from_proto(message: batch_pb2.ListBatchesRequest) -> BatchFilter:
    """Which batches a client means.

    Raises:
        InvalidArgument: ENUM_VALUE_UNKNOWN.
    """
    states = states_from_proto(message.states, "states")
    return BatchFilter(states, message.owner, tuple(message.tags))


def batch_to_proto(batch: BatchStatus) -> batch_pb2.Batch:
    """How a batch stands."""
    return batch_pb2.Batch(
        batch_id=batch.batch_id,
        session_id=batch.session_id,
        state=STATES.to_proto(batch.state),
        sealed=batch.sealed,
        item_count=batch.items,
        completed_count=batch.completed,
        failed_count=batch.failed,
        cancelled_count=batch.cancelled,
        create_time=timestamp(batch.create_time),
        end_time=timestamp(batch.end_time),
        estimated_remaining=duration(batch.remaining_seconds),
        options=options_to_proto(batch.options),
        owner=batch.owner,
        end_reason=batch.end_reason,
    )


def item_to_proto(item: ItemStatus) -> batch_pb2.BatchItemStatus:
    """How an item stands."""
    return batch_pb2.BatchItemStatus(
        item_id=item.item_id,
        state=STATES.to_proto(item.state),
        session_id=item.session_id,
        images=map(image_to_proto, item.images),
        failure=None if item.failure is None else failure_to_proto(item.failure),
        attempt_count=item.attempts,
    )
