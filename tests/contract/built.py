"""What of the contract this version does: RPCs, fields and enum values, as the code answers.

An RPC is built when its servicer overrides it. A field is built when a built RPC reads or
sends it and no list of the code names it as refused (NOT_BUILT).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from deviceops.v1 import generation_pb2, sampling_pb2
from domains.artifact.servicer import ArtifactServicer
from domains.device.servicer import DeviceServicer
from domains.inference.convert import SCHEDULERS
from domains.inference.core.capabilities import UNBUILT
from domains.inference.servicer import InferenceServicer
from domains.inference.types import Scheduler
from domains.memory.servicer import MemoryServicer
from domains.model.servicer import ModelServicer
from domains.postprocessing.servicer import PostprocessingServicer
from domains.processing.servicer import ProcessingServicer
from server.system import SystemServicer
from tests.contract.methods import METHODS

SERVICERS: Mapping[str, type] = {
    "DeviceService": DeviceServicer,
    "MemoryService": MemoryServicer,
    "ModelService": ModelServicer,
    "ProcessingService": ProcessingServicer,
    "InferenceService": InferenceServicer,
    "PostprocessingService": PostprocessingServicer,
    "ArtifactService": ArtifactServicer,
    "SystemService": SystemServicer,
}
_REFUSED: Mapping[Descriptor, tuple[str, ...]] = {
    generation_pb2.GenerationSettings.DESCRIPTOR: tuple(UNBUILT),
}


@cache
def built_rpcs() -> frozenset[str]:
    """The RPCs that are more than UNIMPLEMENTED."""
    return frozenset(
        f"{method.containing_service.name}.{method.name}"
        for method in METHODS
        if _overrides(SERVICERS[method.containing_service.name], method.name)
    )


def _overrides(servicer: type, name: str) -> bool:
    """Whether a servicer, or a part of it, has more than the generated base."""
    return any(
        name in vars(each)
        for each in servicer.__mro__
        if not each.__module__.endswith("_pb2_grpc")
    )


@cache
def refused_fields() -> frozenset[str]:
    """Fields that are refused when they are set, as "Message.field"."""
    return frozenset(
        _at_the_end(message, path) for message, paths in _REFUSED.items() for path in paths
    )


def _at_the_end(message: Descriptor, path: str) -> str:
    field = None
    for name in path.split("."):
        field = message.fields_by_name[name]
        message = field.message_type
    assert field is not None
    return _name(field)


@cache
def built_fields() -> frozenset[str]:
    """Fields that built RPCs read or send."""
    found: set[str] = set()
    for method in METHODS:
        if f"{method.containing_service.name}.{method.name}" in built_rpcs():
            for message in (method.input_type, method.output_type):
                found |= set(_reached(message, set()))
    return frozenset(found)


def _reached(message: Descriptor, seen: set[str]) -> Iterator[str]:
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        if _name(field) in refused_fields():
            continue
        yield _name(field)
        if field.message_type is not None:
            yield from _reached(field.message_type, seen)


def _name(field: FieldDescriptor) -> str:
    return f"{field.containing_type.name}.{field.name}"


@cache
def built_schedulers() -> frozenset[str]:
    """Names of the samplers that draw."""
    return frozenset(
        sampling_pb2.Scheduler.Name(SCHEDULERS.to_proto(scheduler)) for scheduler in Scheduler
    )


def works(name: str) -> bool:
    """Whether an RPC, a field or an enum value of the contract does something today."""
    if name.partition(".")[0].endswith("Service"):
        return name in built_rpcs()
    if "." in name:
        return name in built_fields()
    if name.startswith("SCHEDULER_"):
        return name in built_schedulers()
    users = {
        _name(field)
        for method in METHODS
        for message in (method.input_type, method.output_type)
        for field in _with_value(message, name, set())
    }
    return bool(users & built_fields())


def _with_value(message: Descriptor, value: str, seen: set[str]) -> Iterator[FieldDescriptor]:
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        if field.enum_type is not None and value in field.enum_type.values_by_name:
            yield field
        if field.message_type is not None:
            yield from _with_value(field.message_type, value, seen)
