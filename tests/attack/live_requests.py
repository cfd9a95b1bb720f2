"""Requests of every kind that name what is there: their fields are filled by their descriptors
and the table of limits, and ids are those that the server's own answers have told.

Each is valid by itself more often than not; whether its fields go together, and whether what it
names is still there, is for the server to say.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from domains.limits import LIMITS, Limit
from tests.odd_pictures import good_pictures
from tests.running import small_request

AnyMessage = TypeVar("AnyMessage", bound=Message)

_KEPT_IDS = 40
_DEPTH = 7
_FILE_BYTES = 3_000
# What takes long is no more to the point.
_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "width": (256, 256, 264, 64),
    "height": (256, 256, 264, 64),
    "steps": (1, 2, 3, 4),
    "image_count": (1, 1, 2),
    "scale": (1, 2),
    "factor": (1, 2),
    "size_bytes": (1, 4096, 1 << 20, 1 << 40),
    "target_free_bytes": (1, 1 << 30, 1 << 40),
    "budget_bytes": (0, 1 << 20, 1 << 40, 1 << 50),
    "runs": (1, 2),
    "page_size": (0, 1, 2, 5),
    "max_parallel": (1, 2),
    "max_failures": (0, 1, 3),
    "max_attempts": (1, 2, 3),
    "from_sequence": (0, 1, 2, 5),
    "prompt": ("a red apple", "a (blue:1.2) dog", "rain"),
    "item_id": ("a", "b", "c"),
    "step_id": ("a", "b", "c"),
    "relative_path": ("a.safetensors", "b.png"),
    "input": ("images", "settings.prompt", "settings.seed", "model_id"),
}
# Names that a message makes, and others name.
_NEW = {
    "Workflow.workflow_id": ("flow-1", "flow-2", "flow-3", "flow-4"),
    "SafetyPolicy.policy_id": ("policy-1", "policy-2", "policy-3"),
    "ImportModelRequest.model_id": ("imported-1", "imported-2"),
    "ConvertModelRequest.target_model_id": ("converted-1", "converted-2"),
    "OptimizeModelRequest.target_model_id": ("optimized-1", "optimized-2"),
}
# This version refuses them, or they are the server's to fill.
_NEVER = {
    *("Precision.attention_slicing", "Precision.cpu_offload", "Precision.data_types"),
    *("Precision.vae_slicing", "Precision.vae_tiling", "PreviewSettings.format"),
    *("GenerationSettings.regions", "ControlPreprocessor.postprocessor_id"),
}
_IN_PIECES = {"UploadArtifactRequest", "WriteAllocationRequest"}
_RARELY = {"page_token", "expected_version", "start_time", "loras", "control_nets", "refiner"}
_USUALLY = {"settings", "template", "items", "model_id", "prompt", "steps", "width", "height"}


class LiveRequests:
    """Requests over what a server has.

    Args:
        model_ids: Of models that draw.
    """

    def __init__(self, *model_ids: str) -> None:
        self._models = model_ids
        self._pictures = list(good_pictures().values())
        self._ids: dict[str, list[str]] = defaultdict(list)
        self._ids["device_id"].append("cpu:0")

    def learn(self, answer: Message) -> None:
        """Remember the ids that an answer tells."""
        for field, value in answer.ListFields():
            values = list(value)[:20] if field.is_repeated else [value]
            if field.message_type is not None:
                if not field.message_type.GetOptions().map_entry:
                    for each in values:
                        self.learn(each)
            elif _names_something(field):
                for each in values:
                    self._note(_singular(field.name), each)

    def _note(self, name: str, value: str) -> None:
        known = self._ids[name]
        if value and value not in known:
            known.append(value)
            del known[:-_KEPT_IDS]

    def stream(self, kind: type[AnyMessage], chance: Random) -> list[AnyMessage]:
        """What a call sends: one request, or the pieces of an upload."""
        if kind.DESCRIPTOR.name in _IN_PIECES:
            return self._pieces(kind, chance)
        message = kind()
        self._fill(message, chance, 0)
        plain = small_request(steps=chance.choice((1, 2, 3)), seed=chance.randrange(4)).settings
        plain.model_id = chance.choice(self._models)
        for name in ("settings", "template"):  # the others are mostly refused
            field = kind.DESCRIPTOR.fields_by_name.get(name)
            if field is not None and chance.random() < 0.7:
                getattr(message, name).CopyFrom(plain)
        return [message]

    def _pieces(self, kind: type[AnyMessage], chance: Random) -> list[AnyMessage]:
        data = chance.choice(self._pictures)[:_FILE_BYTES]
        header, piece, end = kind(), kind(), kind()
        opened: Any = cast(Any, header).header
        self._fill(opened, chance, 3)
        opened.upload.Clear()
        opened.upload.upload_id = self._new_uuid(chance)
        opened.upload.size_bytes = len(data)
        cast(Any, piece).data = data
        cast(Any, end).completion.SetInParent()
        return [header, piece, end][: 3 if chance.random() < 0.9 else 2]

    def _fill(self, message: Message, chance: Random, depth: int) -> None:
        kind = message.DESCRIPTOR
        known = _KNOWN_KINDS.get(kind.full_name)
        if known is not None:
            known(message, chance)
            return
        several = [one for one in kind.oneofs if len(one.fields) > 1]
        chosen: list[Any] = [
            field
            for field in kind.fields
            if field.containing_oneof not in several and _is_set(field, chance, depth)
        ]
        chosen += [chance.choice(list(one.fields)) for one in several if chance.random() < 0.9]
        for field in chosen:
            if f"{kind.name}.{field.name}" not in _NEVER:
                self._set(message, field, chance, depth)

    def _set(
        self, message: Message, field: FieldDescriptor, chance: Random, depth: int
    ) -> None:
        part = field.message_type
        if part is not None and part.full_name == "google.protobuf.FieldMask":
            _name_fields(message, field, chance)
        elif part is not None and part.GetOptions().map_entry:
            pass  # labels and arguments; each has tests of its own
        elif part is not None and field.is_repeated:
            for _ in range(chance.choice((1, 1, 2)) if depth < _DEPTH else 0):
                self._fill(getattr(message, field.name).add(), chance, depth + 1)
        elif part is not None:
            if depth < _DEPTH:
                getattr(message, field.name).SetInParent()
                self._fill(getattr(message, field.name), chance, depth + 1)
        else:
            values = [self._scalar(message, field, chance) for _ in range(2)]
            if field.is_repeated:
                getattr(message, field.name).extend(values[: chance.choice((1, 2))])
            else:
                setattr(message, field.name, values[0])

    def _scalar(self, message: Message, field: FieldDescriptor, chance: Random) -> Any:
        place = f"{message.DESCRIPTOR.name}.{field.name}"
        if place in _NEW:
            return chance.choice(_NEW[place])
        if field.name in _CHOICES:
            return chance.choice(_CHOICES[field.name])
        if field.enum_type is not None:
            return chance.choice(field.enum_type.values).number
        if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.choice(self._pictures)
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.4
        if field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
            return _number(LIMITS.get(place, Limit(place)), field, chance)
        name = _singular(field.name)
        if name in ("request_id", "upload_id") and chance.random() < 0.8:
            return self._new_uuid(chance)
        if name == "model_id" and chance.random() < 0.6:
            return chance.choice(self._models)
        known = self._ids.get("next_page_token" if name == "page_token" else name)
        if _names_something(field):
            return chance.choice(known) if known and chance.random() < 0.95 else "nobody"
        return chance.choice(("", "x", "a name"))

    def _new_uuid(self, chance: Random) -> str:
        return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def _singular(name: str) -> str:
    """Of a field for several ids, what one of them is called."""
    name = name[:-1] if name.endswith("_ids") else name
    for ending in ("model_id", "session_id", "allocation_id", "device_id", "step_id"):
        if name.endswith(f"_{ending}"):
            return ending
    return name


def _names_something(field: Any) -> bool:
    text = field.cpp_type == FieldDescriptor.CPPTYPE_STRING
    return text and _singular(field.name).endswith(("_id", "page_token"))


def _is_set(field: Any, chance: Random, depth: int) -> bool:
    if field.name in _RARELY:
        return chance.random() < 0.15
    if depth == 0 or field.name in _USUALLY or _names_something(field):
        return chance.random() < 0.85
    return chance.random() < (0.35 if depth < 3 else 0.2)


def _name_fields(message: Message, field: FieldDescriptor, chance: Random) -> None:
    """A mask names fields of what lies beside it."""
    names = [
        inner.name
        for beside in message.DESCRIPTOR.fields
        if beside.message_type is not None and beside.name != field.name
        for inner in beside.message_type.fields
    ]
    named = chance.sample(names, min(len(names), chance.choice((1, 1, 2))))
    getattr(message, field.name).paths.extend(named)


def _number(limit: Limit, field: FieldDescriptor, chance: Random) -> float:
    least = limit.minimum or 0
    most = min(8 if limit.maximum is None else limit.maximum, max(least + 8, 8))
    value = chance.choice((least, most, chance.uniform(least, most)))
    whole = field.cpp_type not in (
        FieldDescriptor.CPPTYPE_DOUBLE,
        FieldDescriptor.CPPTYPE_FLOAT,
    )
    return int(value) if whole else value


def _duration(message: Any, chance: Random) -> None:
    message.seconds = chance.choice((0, 1, 3, 20, 600))


def _moment(message: Any, chance: Random) -> None:
    message.FromSeconds(int(time.time()) + chance.choice((-100, 0, 2, 100)))


_KNOWN_KINDS: Mapping[str, Callable[[Any, Random], None]] = {
    "google.protobuf.Duration": _duration,
    "google.protobuf.Timestamp": _moment,
}
