"""Requests that have what they must have, and nothing more."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from deviceops.v1 import (
    artifact_pb2,
    common_pb2,
    conditioning_pb2,
    finishing_pb2,
    generation_pb2,
    memory_info_pb2,
    memory_pb2,
    processing_pb2,
    safety_pb2,
    workflow_pb2,
)
from domains.limits import LIMITS
from domains.required_fields import REQUIRED

_SHA256 = "a" * 64
_IDS = {"upload_id": str(uuid.uuid4()), "artifact_id": _SHA256, "sha256": _SHA256}
# What stands for a message that must not be empty: of a oneof one is set, or it is one of
# several fields that is needed. Settings may be empty, and are small here.
NEEDED: Mapping[str, Message] = {
    "CheckSafetyRequest": safety_pb2.CheckSafetyRequest(prompts=["a"]),
    "TestPolicyRequest": safety_pb2.TestPolicyRequest(
        policy=safety_pb2.SafetyPolicy(), prompts=["a"]
    ),
    "PostprocessingStep": finishing_pb2.PostprocessingStep(sharpen=finishing_pb2.SharpenStep()),
    "ControlPreprocessor": conditioning_pb2.ControlPreprocessor(
        grey=conditioning_pb2.GreyOptions()
    ),
    "FieldMask": FieldMask(paths=["tags"]),
    "GenerationSettings": generation_pb2.GenerationSettings(width=256, height=256, steps=1),
    "InputImage": common_pb2.InputImage(artifact_id=_SHA256),
    "MemoryPlace": memory_info_pb2.MemoryPlace(host=memory_info_pb2.HostMemory()),
    "UploadArtifactRequest": artifact_pb2.UploadArtifactRequest(
        header=artifact_pb2.ArtifactUpload()
    ),
    "WriteAllocationRequest": memory_pb2.WriteAllocationRequest(
        header=memory_pb2.AllocationUpload()
    ),
    "RunWorkflowRequest": workflow_pb2.RunWorkflowRequest(workflow_id="a"),
    "ValidateWorkflowRequest": workflow_pb2.ValidateWorkflowRequest(workflow_id="a"),
    "SessionFilter": processing_pb2.SessionFilter(tags=["nothing-has-this-tag"]),
}


def complete(message: Message) -> None:
    """Set every required field that is not set, in the message and in those within it."""
    kind = message.DESCRIPTOR
    if kind.name in NEEDED and not message.ListFields():
        message.CopyFrom(NEEDED[kind.name])
    present = {field.name for field, _ in message.ListFields()}
    for name in REQUIRED.get(kind.name, ()):
        if name not in present:
            _set(message, kind.fields_by_name[name])
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if not field.is_repeated:
            complete(value)
        elif field.message_type.GetOptions().map_entry:
            entries = (
                value.values()
                if field.message_type.fields_by_name["value"].message_type
                else ()
            )
            for entry in entries:
                complete(entry)
        else:
            for entry in value:
                complete(entry)


def _set(message: Message, field: Any) -> None:
    value = getattr(message, field.name)
    if field.is_repeated:
        value.add()
    elif field.message_type is not None:
        value.SetInParent()
    elif isinstance(value, str):
        setattr(message, field.name, _IDS.get(field.name, "a"))
    else:
        least = LIMITS[f"{message.DESCRIPTOR.name}.{field.name}"].minimum or 1
        setattr(message, field.name, int(least))
