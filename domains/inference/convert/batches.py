"""Batches of generations between proto and domain values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from deviceops.v1 import event_pb2, generation_pb2, inference_pb2
from domains import checks
from domains.conversions import EnumMap, digest
from domains.device.convert import placement_from_proto
from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.inference.convert import request_from_proto
from domains.inference.convert.overlays import (
    Layer,
    check_matrix,
    check_overlay,
    combinations,
    laid_over,
)
from domains.inference.types.batches import (
    BatchComputation,
    BatchItem,
    GenerationBatchReport,
    GenerationBatchRequest,
    run_of,
)
from domains.limits import LIMITS
from domains.session.convert import Reports, delivery_from_proto, options_from_proto

COMPUTATIONS = EnumMap(BatchComputation, generation_pb2.BatchComputation, "BATCH_COMPUTATION_")
_ITEMS = LIMITS["GenerateBatchRequest.items"]
_ITEM_ID = LIMITS["GenerationItem.item_id"]


def batch_from_proto(message: inference_pb2.GenerateBatchRequest) -> GenerationBatchRequest:
    """One call of GenerateBatch; what its items say is unchecked.

    Raises:
        InvalidArgument: It is not clear what the items are.
    """
    field = "matrix" if message.HasField("matrix") else "items"
    InvalidArgument.check(*_unclear(message))
    common = inference_pb2.GenerateRequest(
        settings=message.template,
        options=message.options,
        placement=message.placement,
        delivery=message.delivery,
        postprocessing=message.postprocessing,
    )
    items = (
        matrix_items(common, message.matrix)
        if field == "matrix"
        else _items(common, message.items)
    )
    return GenerationBatchRequest(
        template=item_of(common, "", ()),
        items=tuple(items),
        field=field,
        options=options_from_proto(message.options),
        placement=placement_from_proto(message.placement),
        digest=digest(message),
        delivery=delivery_from_proto(message.delivery, "delivery"),
        computation=COMPUTATIONS.from_proto(message.computation, BatchComputation.EXACT),
    )


def _unclear(message: inference_pb2.GenerateBatchRequest) -> Iterator[FieldViolation | None]:
    if not message.HasField("matrix"):
        yield from _check_items(message.items)
    elif message.items:
        rule = "Set items or a matrix, not both."
        yield FieldViolation("matrix", Reason.FIELDS_CONFLICT, rule)
    else:
        yield from check_matrix(message.matrix, "matrix", _ITEMS.max_elements or 0)


def _check_items(
    items: Sequence[inference_pb2.GenerationItem],
) -> Iterator[FieldViolation | None]:
    if too_many := checks.elements("items", len(items), _ITEMS):
        yield too_many
        return
    first: dict[str, int] = {}
    for at, item in enumerate(items):
        yield from checks.item_id(at, f"items[{at}]", item.item_id, _ITEM_ID, first)
        yield from check_overlay(item.overlay, f"items[{at}].overlay")


def _items(
    common: inference_pb2.GenerateRequest, items: Sequence[inference_pb2.GenerationItem]
) -> Iterator[BatchItem]:
    for at, item in enumerate(items):
        yield item_of(common, item.item_id, [Layer(item.overlay, f"items[{at}].overlay")])


def matrix_items(
    common: inference_pb2.GenerateRequest, matrix: generation_pb2.GenerationMatrix
) -> Iterator[BatchItem]:
    """The items of a matrix that breaks no rule; `common` is what they have in common."""
    for item_id, run, layers in combinations(matrix, "matrix"):
        item = item_of(common, item_id, layers)
        settings = run_of(item.request.settings, run)
        yield replace(item, request=replace(item.request, settings=settings))


def item_of(
    common: inference_pb2.GenerateRequest, item_id: str, layers: Sequence[Layer]
) -> BatchItem:
    """The item that has these layers over the settings of `common`."""
    settings, origins = laid_over(common.settings, layers)
    own = inference_pb2.GenerateRequest(
        settings=settings,
        options=common.options,
        placement=common.placement,
        delivery=common.delivery,
        postprocessing=common.postprocessing,
    )
    return BatchItem(item_id, request_from_proto(own), origins)


def batch_report_to_proto(report: GenerationBatchReport) -> event_pb2.GenerationBatchReport:
    """What became of a batch's items."""
    return event_pb2.GenerationBatchReport(
        completed_count=report.completed, failed_count=report.failed
    )


BATCH_REPORTS: Reports = {GenerationBatchReport: batch_report_to_proto}
