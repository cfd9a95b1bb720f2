"""What the steps of a workflow do, as requests of the services that do it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from google.protobuf.message import Message

from deviceops.v1 import (
    batch_pb2,
    common_pb2,
    device_info_pb2,
    device_pb2,
    inference_pb2,
    memory_pb2,
    model_cache_pb2,
    model_pb2,
    postprocessing_pb2,
    session_pb2,
    workflow_pb2,
)
from domains.conversions import wished
from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.processing.workflows.convert import paths
from domains.processing.workflows.convert.limits import check_required
from domains.processing.workflows.convert.own_works import OwnStep, OwnWork
from domains.processing.workflows.types import (
    OWN_WORKS,
    Inputs,
    Pictures,
    Target,
    ValueKind,
    WorkflowValue,
)

_STAND_IN_PIXELS = 256


class StepWorks:
    """The steps of a workflow as messages.

    Args:
        workflow: The workflow; it stays as it is.
        placement: Where steps run that say nothing of it.
    """

    def __init__(
        self, workflow: workflow_pb2.Workflow, placement: device_info_pb2.DevicePlacement
    ) -> None:
        self._steps = workflow.steps
        self._placement = placement

    def target(self, place: int, path: str) -> Target | str:
        """What an input of a step takes, or in words why it has no such input."""
        step = self._steps[place]
        if _is_pictures_of_postprocessing(step, path):
            return Target(frozenset({ValueKind.IMAGES}), repeated=True)
        work = _work(step)
        inputs = [binding.input for binding in step.bindings]
        for excluded, why in paths.exclusions(work, inputs):
            if excluded == path:
                return why
        try:
            return paths.target(work, path)
        except paths.NoSuchInput as error:
            return str(error)

    def request(
        self,
        place: int,
        inputs: Inputs,
        options: session_pb2.WorkOptions,
        delivery: session_pb2.DeliveryOptions,
    ) -> Message:
        """A step with its inputs as the request that its service takes.

        Raises:
            InvalidArgument: An input cannot be put where it is bound, or one that must be there
                is not; fields are paths of the request.
        """
        step = self._steps[place]
        kind = str(step.WhichOneof("work"))
        work, pictures = _work(step), list[common_pb2.InputImage]()
        for path, values in inputs.items():
            if _is_pictures_of_postprocessing(step, path):
                pictures = paths.pictures(values)
            else:
                paths.put(work, path, values)
        placement = step.placement if step.HasField("placement") else self._placement
        request: Any
        if kind == "postprocess":
            request = _processing(work, pictures, placement)
        else:
            request = _REQUESTS[kind](work, placement)
        made: Message = request
        request.options.CopyFrom(options)
        if kind == "batch":  # nothing but its end ends one
            request.options.ClearField("on_disconnect")
        if "delivery" in request.DESCRIPTOR.fields_by_name:
            request.delivery.CopyFrom(delivery)
        InvalidArgument.check(*check_required(made))
        return made

    def own(self, place: int, inputs: Inputs) -> OwnStep:
        """What a run does itself, with its inputs; the step is one of `OWN_WORKS`.

        Raises:
            InvalidArgument: An input cannot be put where it is bound, or several devices are
                named where one is needed.
        """
        step = self._steps[place]
        work: OwnWork = _work(step)
        for path, values in inputs.items():
            paths.put(work, path, values)
        where = step.placement if step.HasField("placement") else self._placement
        open_place = isinstance(
            work, workflow_pb2.AllocateMemoryWork
        ) and not work.place.WhichOneof("place")
        return OwnStep(place, step.step_id, work, _device_of(where) if open_place else "")

    def is_own(self, place: int) -> bool:
        """Whether the step is one of `OWN_WORKS`."""
        return self._steps[place].WhichOneof("work") in OWN_WORKS

    def named(self, place: int, field: str) -> str:
        """Where in the workflow a field of a step's request comes from."""
        step = self._steps[place]
        kind = str(step.WhichOneof("work"))
        first = field.partition(".")[0].partition("[")[0]
        work = _work(step)
        if first in work.DESCRIPTOR.fields_by_name:
            return f"steps[{place}].{kind}.{field}"
        if first in ("placement", "device_id", "device_ids", "place"):
            return f"steps[{place}].placement"
        return f"steps[{place}].{kind}"


def stand_in(kind: ValueKind) -> WorkflowValue | None:
    """What stands for a value that is not known yet while the rest of a step is looked at: a
    grey picture; None where the field is left as it is."""
    if kind is not ValueKind.IMAGES:
        return None
    pictures: Pictures = (common_pb2.InputImage(inline=_grey_picture()),)
    return WorkflowValue(kind, pictures)


@cache
def _grey_picture() -> bytes:
    """A PNG of one grey, square."""
    edge = _STAND_IN_PIXELS
    rows = b"".join(b"\0" + b"\x80" * edge for _ in range(edge))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _work(step: workflow_pb2.WorkflowStep) -> Any:
    """A copy of what a step does."""
    own = getattr(step, str(step.WhichOneof("work")))
    work = type(own)()
    work.CopyFrom(own)
    return work


def _is_pictures_of_postprocessing(step: workflow_pb2.WorkflowStep, path: str) -> bool:
    return step.WhichOneof("work") == "postprocess" and path == "images"


def _processing(
    work: workflow_pb2.PostprocessWork,
    pictures: Sequence[common_pb2.InputImage],
    placement: device_info_pb2.DevicePlacement,
) -> Message:
    """Of one picture, or of several in one session."""
    if len(pictures) == 1:
        return postprocessing_pb2.ProcessImageRequest(
            image=pictures[0],
            steps=work.steps,
            output=wished(work, "output"),
            placement=_set(placement),
        )
    return postprocessing_pb2.ProcessImagesRequest(
        items=[
            postprocessing_pb2.ProcessingItem(item_id=str(place), image=picture)
            for place, picture in enumerate(pictures)
        ],
        steps=work.steps,
        output=wished(work, "output"),
        placement=_set(placement),
    )


def _generate(
    work: workflow_pb2.GenerateWork, placement: device_info_pb2.DevicePlacement
) -> Message:
    return inference_pb2.GenerateRequest(settings=work.settings, placement=_set(placement))


def _load(
    work: workflow_pb2.LoadModelWork, placement: device_info_pb2.DevicePlacement
) -> Message:
    return model_pb2.LoadModelRequest(model_id=work.model_id, placement=_set(placement))


def _unload(
    work: workflow_pb2.UnloadModelWork, placement: device_info_pb2.DevicePlacement
) -> Message:
    return model_pb2.UnloadModelRequest(
        model_id=work.model_id, device_ids=_devices_of(placement)
    )


def _optimize(
    work: workflow_pb2.OptimizeDeviceWork, placement: device_info_pb2.DevicePlacement
) -> Message:
    return device_pb2.OptimizeDeviceRequest(
        device_id=_device_of(placement), profile=work.profile
    )


def _evict(
    work: workflow_pb2.EvictModelsWork, placement: device_info_pb2.DevicePlacement
) -> Message:
    request = memory_pb2.EvictModelsRequest(target_free_bytes=work.target_free_bytes)
    device_id = _device_of(placement)
    if device_id:
        request.place.device_id = device_id
    return request


def _cache(
    work: workflow_pb2.CacheModelWork, placement: device_info_pb2.DevicePlacement
) -> Message:
    return model_cache_pb2.CacheModelRequest(model_id=work.model_id)


def _control_image(
    work: workflow_pb2.ControlImageWork, placement: device_info_pb2.DevicePlacement
) -> Message:
    request = inference_pb2.PreviewControlImageRequest()  # it is made on no device
    for field, value in work.ListFields():  # they have the same names
        if isinstance(value, Message):
            getattr(request, field.name).CopyFrom(value)
        else:
            setattr(request, field.name, value)
    return request


def _batch(work: workflow_pb2.BatchWork, placement: device_info_pb2.DevicePlacement) -> Message:
    items = [
        batch_pb2.BatchItem(item_id=str(place), overlay=overlay)
        for place, overlay in enumerate(work.items)
    ]
    request = batch_pb2.CreateBatchRequest(template=work.template, items=items)
    if placement.HasField("any"):
        request.devices.CopyFrom(placement.any)
    elif placement.device_id:
        request.devices.device_ids.append(placement.device_id)
    return request


def _run_workflow(
    work: workflow_pb2.RunWorkflowWork, placement: device_info_pb2.DevicePlacement
) -> Message:
    return workflow_pb2.RunWorkflowRequest(
        workflow_id=work.workflow_id, arguments=work.arguments, placement=_set(placement)
    )


METHODS: Mapping[str, str] = {
    "generate": "InferenceService/Generate",
    "postprocess": "PostprocessingService/ProcessImage",
    "load_model": "ModelService/LoadModel",
    "unload_model": "ModelService/UnloadModel",
    "optimize_device": "DeviceService/OptimizeDevice",
    "evict_models": "MemoryService/EvictModels",
    "cache_model": "ModelService/CacheModel",
    "control_image": "InferenceService/PreviewControlImage",
    "run_workflow": "ProcessingService/RunWorkflow",
    "batch": "ProcessingService/CreateBatch",
    "verify": "InferenceService/VerifyImage",
    "store": "ArtifactService/UpdateArtifact",
    "allocate_memory": "MemoryService/CreateAllocation",
    "free_memory": "MemoryService/DeleteAllocation",
}
"""The method that a client would call for a step, by what it does."""

_REQUESTS: Mapping[str, Callable[[Any, device_info_pb2.DevicePlacement], Message]] = {
    "generate": _generate,
    "load_model": _load,
    "unload_model": _unload,
    "optimize_device": _optimize,
    "evict_models": _evict,
    "cache_model": _cache,
    "batch": _batch,
    "control_image": _control_image,
    "run_workflow": _run_workflow,
}


def _set(
    placement: device_info_pb2.DevicePlacement,
) -> device_info_pb2.DevicePlacement | None:
    """A placement that says something."""
    return placement if placement.WhichOneof("placement") else None


def _devices_of(placement: device_info_pb2.DevicePlacement) -> Iterable[str]:
    """The devices that a placement names; none means all.

    Raises:
        InvalidArgument: It names them by kind.
    """
    if placement.any.kinds:
        raise _unnamed("placement.any.kinds", "Must be empty: this step takes ids of devices.")
    return [placement.device_id] if placement.device_id else placement.any.device_ids


def _device_of(placement: device_info_pb2.DevicePlacement) -> str:
    """The one device that a placement names; empty means the default one.

    Raises:
        InvalidArgument: It lets several be chosen from.
    """
    if placement.HasField("any"):
        raise _unnamed("placement.any", "Must be one device_id: this step is about a device.")
    return placement.device_id


def _unnamed(field: str, rule: str) -> InvalidArgument:
    return InvalidArgument.of(FieldViolation(field, Reason.FIELDS_CONFLICT, rule))
