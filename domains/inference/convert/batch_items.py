"""Items of durable batches as generations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from google.protobuf.message import Message
from msgspec import structs

from deviceops.v1 import (
    batch_pb2,
    generation_pb2,
    inference_pb2,
    postprocessing_pb2,
    session_pb2,
)
from domains.errors import FeatureNotBuilt, FieldViolation, InvalidArgument
from domains.inference.convert import request_from_proto
from domains.inference.convert.batch_pictures import check_given
from domains.inference.convert.batches import item_of, matrix_items
from domains.inference.convert.overlays import (
    Layer,
    check_matrix,
    check_overlay,
    combinations,
    laid_over,
)
from domains.inference.core.forecast import Forecasts
from domains.inference.core.item_fields import each_prepared, items_fields
from domains.inference.core.preparing import GenerationPreparer, PreparedGeneration
from domains.inference.core.resolution import effort_of
from domains.inference.core.same_pictures import SamePictures
from domains.inference.core.validation import check_request
from domains.inference.ports import PicturePreparer
from domains.inference.types.batches import BatchItem
from domains.limits import LIMITS
from domains.processing.batches.types import ItemWork, Settled
from domains.session.convert import PRIORITIES
from domains.session.core.plan import SessionRequest
from domains.session.types import Priority
from domains.values import ModelContent

_NOTHING_OPEN = Settled((), "")
_MOST = LIMITS["CreateBatchRequest.items"].max_elements or 0
Start = Callable[[Message], SessionRequest]


class GenerationTemplate:
    """The template of a batch whose items are generations; see the port `Template`.

    Args:
        request: The batch's request, in bytes; empty for a template that says nothing.
        preparer: Checks and resolves generations.
        pictures: Prepares those that items name.
        forecasts: Tell how much memory one takes.
        start: Makes the session of one.
        contents: What models are made of now, by their ids.
    """

    def __init__(
        self,
        request: bytes,
        preparer: GenerationPreparer,
        pictures: PicturePreparer,
        forecasts: Forecasts,
        start: Start,
        contents: Callable[[Iterable[str]], Awaitable[tuple[ModelContent, ...]]],
    ) -> None:
        self._message = batch_pb2.CreateBatchRequest.FromString(request)
        self._preparer, self._pictures, self._start = preparer, pictures, start
        self._forecasts, self._contents = forecasts, contents
        self._common = inference_pb2.GenerateRequest(
            settings=self._message.template,
            options=self._options(),
            postprocessing=self._message.postprocessing,
        )
        self._common.placement.any.CopyFrom(self._message.devices)
        self._layers: Mapping[str, Sequence[Layer]] | None = None

    def _options(self) -> session_pb2.WorkOptions:
        message = self._message
        result = session_pb2.WorkOptions(on_disconnect=session_pb2.ON_DISCONNECT_DETACH)
        if message.HasField("item_run_timeout"):
            result.run_timeout.CopyFrom(message.item_run_timeout)
        if message.options.HasField("retention"):
            result.retention.CopyFrom(message.options.retention)
        return result

    def combinations(self) -> Sequence[ItemWork]:
        """The items of its matrix; see the port."""
        if not self._message.HasField("matrix"):
            return ()
        InvalidArgument.check(*check_matrix(self._message.matrix, "matrix", _MOST))
        return [ItemWork(item_id, None) for item_id in self._combined]

    @property
    def _combined(self) -> Mapping[str, Sequence[Layer]]:
        """What lies over the template in each combination of the matrix."""
        if self._layers is None:
            every = combinations(self._message.matrix, "matrix")
            self._layers = {item_id: layers for item_id, _, layers in every}
        return self._layers

    async def check(self, works: Sequence[ItemWork]) -> Sequence[Settled]:
        """Check items and decide what they leave open; see the port."""
        overlays = [
            generation_pb2.GenerationOverlay.FromString(w.overlay or b"") for w in works
        ]
        InvalidArgument.check(*_unclear(works, overlays))
        if not works:
            self._check_template()
            return ()
        if works[0].overlay is None:
            items: Iterator[BatchItem] = matrix_items(self._common, self._message.matrix)
        else:
            items = (
                item_of(self._common, work.item_id, [Layer(overlay, f"{work.path}.overlay")])
                for work, overlay in zip(works, overlays, strict=True)
                if work.image is None
            )
        finished = await check_given(works, self._finishing, self._start)
        pictures = SamePictures(self._pictures)
        drawn = iter(await each_prepared(self._preparer, items, pictures, _settled))
        finish = () if finished is None else (finished.model_id, *finished.companion_ids)
        open_of = [
            next(drawn) if work.image is None else (_NOTHING_OPEN, finish) for work in works
        ]
        every = dict.fromkeys(each for _, ids in open_of for each in ids if each)
        found = {each.model_id: each for each in await self._contents(every)}
        return [
            structs.replace(
                settled, contents=tuple(found[each] for each in ids if each in found)
            )
            for settled, ids in open_of
        ]

    def _finishing(self, image: bytes) -> postprocessing_pb2.ProcessImageRequest:
        """A picture that is given, put through the batch's postprocessing."""
        own, template = postprocessing_pb2.ProcessImageRequest(), self._message.template
        own.image.ParseFromString(image)
        own.steps.extend(self._common.postprocessing)
        own.options.CopyFrom(self._common.options)
        own.placement.CopyFrom(self._common.placement)
        if template.HasField("output"):
            own.output.CopyFrom(template.output)
        if template.HasField("precision"):
            own.precision.CopyFrom(template.precision)
        return own

    def _check_template(self) -> None:
        """What can be said of it alone; items may say more, or otherwise."""
        template = item_of(self._common, "", ())
        with items_fields(template):
            InvalidArgument.check(*check_request(template.request))
            if template.request.unbuilt:
                raise FeatureNotBuilt(template.request.unbuilt)

    def request(self, work: ItemWork, settled: Settled, priority: Priority) -> SessionRequest:
        """An item as the session that draws or finishes it; see the port."""
        if work.image is not None:
            given = self._finishing(work.image)
            given.options.priority = PRIORITIES.to_proto(priority)
            return replace(self._start(given), contents=settled.contents)
        own = inference_pb2.GenerateRequest()
        own.CopyFrom(self._common)
        own.settings.CopyFrom(self._settings(work, settled))
        own.options.priority = PRIORITIES.to_proto(priority)
        return replace(self._start(own), contents=settled.contents)

    def together(
        self, works: Sequence[tuple[ItemWork, Settled]], priority: Priority
    ) -> SessionRequest:
        """Several items as the session that draws them; see the port."""
        several = inference_pb2.GenerateBatchRequest(
            template=self._common.settings,
            options=self._common.options,
            placement=self._common.placement,
            postprocessing=self._common.postprocessing,
            computation=generation_pb2.BATCH_COMPUTATION_THROUGHPUT,
        )
        several.options.priority = PRIORITIES.to_proto(priority)
        for work, settled in works:
            overlay = _difference(several.template, self._settings(work, settled))
            several.items.add(item_id=work.item_id, overlay=overlay)
        contents = dict.fromkeys(each for _, settled in works for each in settled.contents)
        return replace(self._start(several), contents=tuple(contents))

    async def at_once(
        self, work: ItemWork, settled: Settled, device_ids: Sequence[str]
    ) -> int | None:
        """How many such items memory suffices for together; see the port."""
        own = inference_pb2.GenerateRequest()
        own.CopyFrom(self._common)
        own.settings.CopyFrom(self._settings(work, settled))
        prepared = await self._preparer.prepare(request_from_proto(own), self._pictures)
        settings = prepared.job.settings
        counts = [
            (
                await self._forecasts.of(
                    device_id, effort_of(settings), settings, prepared.models
                )
            ).at_once
            for device_id in device_ids
        ]
        known = [count // len(settled.seeds) for count in counts if count is not None]
        return min(known, default=None)

    def _settings(self, work: ItemWork, settled: Settled) -> generation_pb2.GenerationSettings:
        """What an item draws, with nothing left open that was decided."""
        layers = (
            self._combined[work.item_id]
            if work.overlay is None
            else [Layer(generation_pb2.GenerationOverlay.FromString(work.overlay), "")]
        )
        settings, _ = laid_over(self._common.settings, layers)
        settings.ClearField("seed")
        settings.seeds[:] = settled.seeds
        settings.model_id = settled.model_id
        return settings


def _difference(
    template: generation_pb2.GenerationSettings, settings: generation_pb2.GenerationSettings
) -> generation_pb2.GenerationOverlay:
    """The overlay that makes these settings of the template."""
    of_template = dict(template.ListFields())
    overlay = generation_pb2.GenerationOverlay()
    overlay.settings.CopyFrom(settings)
    for field, value in settings.ListFields():
        if field in of_template and of_template[field] == value:
            overlay.settings.ClearField(field.name)  # type: ignore[arg-type]
    mine = {field.name for field, _ in settings.ListFields()}
    overlay.cleared_fields.paths.extend(
        field.name for field in of_template if field.name not in mine
    )
    return overlay


def _unclear(
    works: Sequence[ItemWork], overlays: Sequence[generation_pb2.GenerationOverlay]
) -> Iterator[FieldViolation]:
    for work, overlay in zip(works, overlays, strict=True):
        yield from check_overlay(overlay, f"{work.path}.overlay")


def _settled(prepared: PreparedGeneration) -> tuple[Settled, tuple[str, ...]]:
    """And the ids of all models."""
    settings = prepared.job.settings
    ids = tuple(dict.fromkeys(model.model_id for model in prepared.models))
    return Settled(settings.seeds, settings.model_id), ids
