"""Generations as odd as a client can write them: every field of the contract within its limits
or just beyond, combined at random, over models that are there.

Fields are filled by their descriptors and the table of limits, so that new ones are tried as
they come; `_CHOICES` has what the table cannot know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from deviceops.v1 import generation_pb2, inference_pb2
from domains.limits import LIMITS, Limit
from tests.odd_pictures import bad_pictures, good_pictures

_PIECES = (
    *("a red apple", "(", ")", "((", "[", "]", ":", "1.2", ":-1)", ":0)", ":1e99)", ":nan)"),
    *("(x:1.2:1.1)", "(x:1.2),", " BREAK ", "BREAK", "\\(", "\\", "<lora:x:0.8>", "\u202e"),
    *("embedding:far", "far", "farm", "{a|b}", "[a:b:0.5]", "<|endoftext|>", "!", "\n", "\t"),
    *("\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301", "\ufeff", "\u00b2", "'s"),
    "x" * 99,
)
_LONG = ("(" * 5000, "word " * 2000, "BREAK " * 60, "!" * 10_000, "(a:1.1)" * 500, " " * 10_000)


def _prompt(chance: Random) -> str:
    if chance.random() < 0.1:
        return chance.choice(_LONG)
    return "".join(chance.choices(_PIECES, k=chance.randrange(7)))


def _picture(chance: Random) -> bytes:
    pictures = bad_pictures() if chance.random() < 0.04 else good_pictures()
    return chance.choice(list(pictures.values()))


def _falling(chance: Random) -> list[float]:
    levels = [chance.uniform(0.01, 20) for _ in range(chance.randrange(1, 5))]
    return sorted(levels, reverse=True)


_Choose = Callable[[Random], Any]
# What a field is set to, where its range is not the question.
_CHOICES: Mapping[str, _Choose] = {
    "GenerationSettings.prompt": _prompt,
    "GenerationSettings.negative_prompt": _prompt,
    "SdxlSettings.prompt_2": _prompt,
    "SdxlSettings.negative_prompt_2": _prompt,
    "InputImage.inline": _picture,
    "SchedulerSettings.sigmas": _falling,
    # What takes long is no odder.
    "GenerationSettings.width": lambda chance: chance.choice((256, 256, 264, 320)),
    "GenerationSettings.height": lambda chance: chance.choice((256, 256, 264, 320)),
    "GenerationSettings.steps": lambda chance: chance.choice((1, 2, 3, 4, 5)),
    "GenerationSettings.image_count": lambda chance: chance.choice((1, 1, 2)),
    "SecondPass.steps": lambda chance: chance.choice((1, 2, 3, 5)),
    "SecondPass.scale": lambda chance: chance.choice((1.0, 1.0001, 1.1, 1.25, 1.5)),
    "Refiner.steps": lambda chance: chance.choice((1, 2, 3, 5)),
    "OutputSettings.retention": lambda chance: Duration(seconds=chance.choice((0, 60, 600))),
    "Inpainting.margins": lambda chance: generation_pb2.OutpaintingMargins(
        left_pixels=chance.choice((0, 8, 64)), bottom_pixels=chance.choice((0, 1, 8))
    ),
}
# How often a field is set where it is neither a rare nor a usual one.
_OFTEN: Mapping[str, float] = {
    "GenerationSettings.model_id": 1,
    "GenerationSettings.prompt": 0.9,
    "GenerationSettings.width": 0.9,
    "GenerationSettings.height": 0.9,
    "GenerationSettings.steps": 1,
    "GenerationSettings.mode": 0.5,
    "GenerationSettings.image_prompts": 0.05,
    "GenerationSettings.regions": 0.01,
    "GenerationSettings.seeds": 0.1,
    "GenerationSettings.second_pass": 0.2,
    "GenerationSettings.precision": 0.1,
    "SchedulerSettings.scheduler": 0.8,
    "SchedulerSettings.sigmas": 0.05,
    "SdxlSettings.refiner": 0.3,
    "SecondPass.postprocessor_id": 0.02,
    "Provenance.manifest": 0.05,
    "Provenance.watermark": 0.05,
    "OutputSettings.provenance": 0.05,
    "OutputSettings.retention": 0.05,
    "Refiner.model_id": 1,
    "LoraWeight.model_id": 1,
    "ControlNetGuidance.model_id": 1,
    "ControlNetGuidance.image": 1,
    "ControlNetGuidance.images": 0.1,
    "ImagePrompt.model_id": 1,
    "ImagePrompt.images": 1,
    "ImagePrompt.image_encoder_model_id": 0.1,
    "ImageToImage.image": 1,
    "Inpainting.image": 1,
    "Inpainting.mask": 0.9,
    "InputImage.source": 1,
    "ControlPreprocessor.preprocessor": 1,
}
# Of these oneofs one member is far more usual than the others.
_USUAL = {"InputImage.source": "inline"}
_USUALLY = 0.3
_BEYOND = 0.01
_MOST_ELEMENTS = 3


class OddGenerations:
    """Requests over the models of one server.

    Args:
        models: Ids by the field that may name them ("LoraWeight.model_id"); the first of each
            go together.
    """

    def __init__(self, models: Mapping[str, tuple[str, ...]]) -> None:
        self._choices = {**_CHOICES, **{key: _mostly_first(models[key]) for key in models}}

    def request(self, number: int) -> inference_pb2.GenerateRequest:
        """The one of that number, the same every time."""
        chance = Random(number)
        request = inference_pb2.GenerateRequest()
        self._fill(request.settings, chance)
        if chance.random() < 0.2:
            request.delivery.previews.every_steps = chance.choice((1, 2, 150))
            request.delivery.previews.max_edge_pixels = chance.choice((64, 512))
        return request

    def _fill(self, message: Message, chance: Random) -> None:
        kind = message.DESCRIPTOR
        oneofs = [one for one in kind.oneofs if len(one.fields) > 1]
        chosen = [
            field
            for field in kind.fields
            if field.containing_oneof not in oneofs and _is_set(kind.name, field.name, chance)
        ]
        for one in oneofs:
            if _is_set(kind.name, one.name, chance):
                usual = _USUAL.get(f"{kind.name}.{one.name}")
                if usual is not None and chance.random() < 0.95:
                    chosen.append(kind.fields_by_name[usual])
                else:
                    chosen.append(chance.choice(list(one.fields)))
        for field in chosen:
            self._set(message, cast(FieldDescriptor, field), chance)

    def _set(self, message: Message, field: FieldDescriptor, chance: Random) -> None:
        name = f"{message.DESCRIPTOR.name}.{field.name}"
        choose = self._choices.get(name)
        if choose is not None:
            value = choose(chance)
            if field.is_repeated:
                values = value if isinstance(value, list) else [value]
                getattr(message, field.name).extend(values)
            elif field.message_type is not None:
                getattr(message, field.name).CopyFrom(value)
            else:
                setattr(message, field.name, value)
        elif field.message_type is not None and field.is_repeated:
            for _ in range(chance.randrange(1, _MOST_ELEMENTS)):
                self._fill(getattr(message, field.name).add(), chance)
        elif field.message_type is not None:
            part = getattr(message, field.name)
            part.SetInParent()
            self._fill(part, chance)
        elif field.is_repeated:
            values = [_scalar(field, name, chance) for _ in range(chance.randrange(1, 4))]
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, _scalar(field, name, chance))


def _is_set(message: str, name: str, chance: Random) -> bool:
    return chance.random() < _OFTEN.get(f"{message}.{name}", _USUALLY)


def _mostly_first(ids: tuple[str, ...]) -> _Choose:
    return lambda chance: ids[0] if chance.random() < 0.7 else chance.choice(ids)


def _scalar(field: FieldDescriptor, name: str, chance: Random) -> Any:
    if field.enum_type is not None:
        return chance.choice(field.enum_type.values).number
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return chance.choice(("", "nobody", "line-art"))
    return _number(LIMITS.get(name, Limit(name)), chance, field)


def _number(limit: Limit, chance: Random, field: FieldDescriptor) -> float:
    """Its ends, its default, something between; now and then one that is out of range."""
    whole = field.cpp_type != FieldDescriptor.CPPTYPE_DOUBLE
    least = 0 if limit.minimum is None else limit.minimum
    most = 100 if limit.maximum is None else limit.maximum
    if chance.random() < _BEYOND:
        value = chance.choice((least - 1, most + 1))
    else:
        between = chance.uniform(least, most)
        value = chance.choice((least, most, limit.default or least, between, between))
    return int(value) if whole else value
