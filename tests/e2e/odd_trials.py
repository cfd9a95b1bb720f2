"""What has to hold of any generation, tried over a real server."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import Message
from PIL import Image

from deviceops.v1 import errors_pb2, event_pb2, generation_pb2, inference_pb2
from tests.e2e.errors import Refusal, read
from tests.running import Client, small_request

LONGEST_SECONDS = 120.0
# What a request's content is refused with.
_CONTENT = {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "FAILED_PRECONDITION"}
# What only the work itself can tell.
_TOLD_BY_WORK = ("MODEL_INCOMPATIBLE", "FIELDS_CONFLICT", "FIELD_OUT_OF_RANGE")
# Where metadata names fields.
_NAMING = ("field", "fields")
_ROUNDS = 12
_STEP = re.compile(r"([a-z_0-9]+)(?:\[(\d+)\])?")


@dataclass
class Trial:
    """What a request came to: each round leaves out what the one before was refused for."""

    request: inference_pb2.GenerateRequest
    refusals: list[Refusal] = field(default_factory=list)
    events: list[event_pb2.SessionEvent] = field(default_factory=list)
    files: dict[int, bytes] = field(default_factory=dict)

    @property
    def effective(self) -> generation_pb2.GenerationSettings:
        """What was drawn, once it is."""
        return self.events[-1].completed.generation.effective_settings


async def tried(client: Client, request: inference_pb2.GenerateRequest) -> Trial:
    """Validate and draw it, and again without what was refused, until it is drawn.

    Raises:
        AssertionError: An answer that must not be.
    """
    trial = Trial(request)
    for _ in range(_ROUNDS):
        verdict, told = await _validated(client, request)
        begun = len(trial.events)
        refusal = await _generated(client, request, trial)
        if refusal is None:
            assert verdict is not None, ("drawn though not valid", told)
            assert verdict.valid, ("drawn though not valid", told)
            _check_pictures(trial)
            _check_effective(verdict.effective_settings, trial)
            return trial
        trial.refusals.append(refusal)
        assert refusal.code.name in _CONTENT, refusal
        if len(trial.events) > begun:  # accepted: what only the work itself could tell
            assert refusal.reason in _TOLD_BY_WORK, refusal
            _leave_out(request, refusal)
            continue
        assert told is not None, ("refused though valid", refusal)
        assert (told.code, told.reason) == (refusal.code, refusal.reason), (told, refusal)
        assert told.fields == refusal.fields, (told, refusal)
        _leave_out(request, refusal)
    raise AssertionError(("never drawn", trial.refusals))


async def _validated(
    client: Client, request: inference_pb2.GenerateRequest
) -> tuple[inference_pb2.ValidateGenerationResponse | None, Refusal | None]:
    """The verdict, and what is to be expected of Generate if that is no picture."""
    asked = inference_pb2.ValidateGenerationRequest(request=request)
    try:
        verdict = await client.inference.ValidateGeneration(
            asked, metadata=client.metadata, timeout=LONGEST_SECONDS
        )
    except grpc.aio.AioRpcError as error:
        refusal = read(error)
        refusal.fields = [name.removeprefix("request.") for name in refusal.fields]
        return None, refusal
    if verdict.valid:
        assert not verdict.violations
        assert not verdict.HasField("failure")
        assert verdict.HasField("effective_settings")
        return verdict, None
    fields = [violation.field for violation in verdict.violations]
    if fields:
        reasons = {violation.reason for violation in verdict.violations}
        assert "" not in reasons
        code, reason = grpc.StatusCode.INVALID_ARGUMENT, verdict.violations[0].reason
        return verdict, Refusal(code, "", reason, fields=fields)
    failure = verdict.failure
    codes: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
    name = errors_pb2.ErrorReason.Name(failure.reason).removeprefix("ERROR_REASON_")
    fields = [violation.field for violation in failure.violations]
    return verdict, Refusal(
        codes[failure.status_code], failure.message, name, dict(failure.metadata), fields
    )


async def _generated(
    client: Client, request: inference_pb2.GenerateRequest, trial: Trial
) -> Refusal | None:
    try:
        async for response in client.generate(request, timeout=LONGEST_SECONDS):
            event = response.event
            trial.events.append(event)
            if event.WhichOneof("event") == "image_chunk":
                chunk = event.image_chunk
                before = trial.files.get(chunk.image_index, b"")
                trial.files[chunk.image_index] = before + chunk.data
    except grpc.aio.AioRpcError as error:
        return read(error)
    return None


def _check_pictures(trial: Trial) -> None:
    """They are whole, as many and as large as was said, and no single colour."""
    done = trial.events[-1].completed
    assert len(done.images) == len(trial.files) == trial.effective.image_count
    for told in done.images:
        picture = Image.open(io.BytesIO(trial.files[told.image_index]))
        picture.load()
        assert picture.size == (told.width, told.height)
        assert np.asarray(picture).std() > 0


def _check_effective(foretold: generation_pb2.GenerationSettings, trial: Trial) -> None:
    """What was foretold is what was done, but for seeds that nobody chose."""
    done = generation_pb2.GenerationSettings()
    done.CopyFrom(trial.effective)
    for settings in (foretold, done):
        settings.ClearField("seed")
        settings.ClearField("seeds")
        settings.ClearField("precision")
    assert foretold == done


def said_again(trial: Trial) -> inference_pb2.GenerateRequest | None:
    """A request for just what was drawn; None where its pictures came with the request."""
    if "inline" in str(trial.request.settings):
        return None
    return inference_pb2.GenerateRequest(
        settings=trial.effective, delivery=trial.request.delivery
    )


def _leave_out(request: inference_pb2.GenerateRequest, refusal: Refusal) -> None:
    """Clear what the refusal names: each must be a field that there is."""
    told = [refusal.metadata.get(key, "") for key in _NAMING]
    named = refusal.fields or [part for text in told for part in text.split(",") if part]
    assert named, ("a refusal without a field", refusal)
    before = request.SerializeToString(deterministic=True)
    for path in sorted(named, reverse=True):  # later elements of a list go first
        _clear(request, path.split(" ")[0])
    assert request.SerializeToString(deterministic=True) != before, refusal


def _clear(message: Message, path: str) -> None:
    if path.isupper():  # a value of an enum
        assert _clear_value(message, path), path
        return
    steps = [_STEP.fullmatch(step) for step in path.split(".")]
    holders: list[tuple[Any, str, int | None]] = []
    here: Any = message
    for step in steps:
        assert step is not None, path
        name, index = step[1], None if step[2] is None else int(step[2])
        assert name in here.DESCRIPTOR.fields_by_name, (path, name)
        holders.append((here, name, index))
        value = getattr(here, name)
        if index is not None:
            if index >= len(value):
                return  # went with one before it
            value = value[index]
        here = value
    for holder, name, index in reversed(holders):
        if index is not None:
            del getattr(holder, name)[index]
            return
        was = holder.SerializeToString(deterministic=True)
        holder.ClearField(name)
        if holder.SerializeToString(deterministic=True) != was:
            return


def _clear_value(message: Message, name: str) -> bool:
    """Clear the fields that hold the value of that name."""
    found = False
    for one, value in message.ListFields():
        if one.message_type is not None:
            for each in value if one.is_repeated else [value]:
                found = (isinstance(each, Message) and _clear_value(each, name)) or found
        elif (
            one.enum_type is not None
            and not one.is_repeated
            and one.enum_type.values_by_number[value].name == name
        ):
            message.ClearField(one.name)
            found = True
    return found


async def plain_pictures(client: Client, model_id: str = "") -> dict[int, bytes]:
    """A plain request's pictures, which are the same before and after anything else."""
    _, files = await client.draw(small_request(steps=2, model_id=model_id))
    return files
