"""Enum values by the names people use: `euler-a`, `EulerAncestralDiscrete`, the contract's.

Every table maps a friendly name to the number the contract gives the value; the names
of the contract itself, with and without prefix, are accepted everywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

V = TypeVar("V", bound=int)

# Friendly name -> contract name without its prefix. The first name of a value is the one
# that help texts show; a scheduler without one goes by the beginning of its contract name.
SCHEDULERS: Mapping[str, str] = {
    "dpm++2m": "DPM_SOLVER_MULTISTEP",
    "dpm++2s": "DPM_SOLVER_SINGLESTEP",
    "dpm++sde": "DPM_SOLVER_SDE",
    "euler-a": "EULER_ANCESTRAL_DISCRETE",
    "dpm2": "KDPM2_DISCRETE",
    "dpm2-a": "KDPM2_ANCESTRAL_DISCRETE",
    "dpmpp-2m": "DPM_SOLVER_MULTISTEP",
    "dpmpp-2s": "DPM_SOLVER_SINGLESTEP",
    "dpmpp-sde": "DPM_SOLVER_SDE",
    "kdpm2-a": "KDPM2_ANCESTRAL_DISCRETE",
}
SPACINGS: Mapping[str, str] = {
    "karras": "KARRAS",
    "exponential": "EXPONENTIAL",
    "beta": "BETA",
    "even": "EVEN",
}
# Whether the left edge continues at the right one, and the upper at the lower one.
SEAMLESS: Mapping[str, tuple[bool, bool]] = {
    "x": (True, False),
    "y": (False, True),
    "both": (True, True),
}
FORMATS: Mapping[str, str] = {
    "png": "PNG",
    "jpeg": "JPEG",
    "jpg": "JPEG",
    "webp": "WEBP",
    "avif": "AVIF",
}
REFINER_MODES: Mapping[str, str] = {
    "handover": "HANDOVER",
    "image-to-image": "IMAGE_TO_IMAGE",
}
# How a second pass enlarges; what is none of them is the id of an upscaler.
UPSCALES: Mapping[str, str] = {"latent": "LATENT", "pixels": "PIXELS", "model": "MODEL"}
PRECISIONS: Mapping[str, str] = {"exact": "EXACT", "fastest": "FASTEST"}
# What schedulers' names end in says how they compute; people leave it out.
_ENDINGS = re.compile("_(DISCRETE|MULTISTEP|SINGLESTEP)$")
PRIORITIES: Mapping[str, str] = {"low": "LOW", "normal": "NORMAL", "high": "HIGH"}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(s|m|h|d)?")
_SIZE = re.compile(r"(\d{1,16}(?:\.\d{1,6})?) ?(?:([kmgt])i?)?b?", re.IGNORECASE)
_UNIT_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class UnusableOptions(ValueError):
    """Options make no request; the message says which and why."""


def choose(
    enum: _EnumTypeWrapper[V], prefix: str, word: str, names: Mapping[str, str] | None = None
) -> V:
    """The number of the value that `word` names, whatever its case and separators.

    Args:
        enum: The contract's enum.
        prefix: What its values begin with, `SCHEDULER_`.
        word: What the person wrote.
        names: Friendly names; without them those of the contract alone.

    Raises:
        UnusableOptions: No value has that name.
    """
    friendly = names or {}
    known = {_plain(name): number for name, number in enum.items() if number}
    known |= {_plain(name): enum.Value(prefix + value) for name, value in friendly.items()}
    for name, short in _short_names(enum, prefix).items():
        known |= {_plain(name): enum.Value(prefix + name)}
        known.setdefault(_plain(short), enum.Value(prefix + name))
    plain = _plain(word)
    # diffusers' class names end so.
    for candidate in (plain, plain.removesuffix("scheduler")):
        if candidate in known:
            return known[candidate]
    raise UnusableOptions(f"{word!r} is none of: {', '.join(offered(enum, prefix, friendly))}")


def duration_in(option: str, text: str) -> Duration:
    """The time that `90`, `90s`, `1.5m`, `2h` and `7d` mean.

    Raises:
        UnusableOptions: The text is nothing of the kind; the message names `option`.
    """
    from google.protobuf.duration_pb2 import Duration

    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise UnusableOptions(f"{option}: {text!r} is no time; for example 90, 30s, 5m, 2h, 7d")
    result = Duration()
    result.FromNanoseconds(round(float(found[1]) * _UNIT_SECONDS[found[2]] * 1e9))
    return result


def offered(enum: _EnumTypeWrapper[V], prefix: str, names: Mapping[str, str]) -> list[str]:
    """One name per value, in order: the friendly one where there is one."""
    first: dict[str, str] = {}
    for name, value in names.items():
        first.setdefault(value, name)
    shorts = _short_names(enum, prefix)
    return [first.get(name, short.lower().replace("_", "-")) for name, short in shorts.items()]


def _short_names(enum: _EnumTypeWrapper[V], prefix: str) -> dict[str, str]:
    """Each contract name without its prefix, and without its ending where that is clear."""
    values = [name.removeprefix(prefix) for name, number in enum.items() if number]
    beginnings = Counter(_ENDINGS.sub("", value) for value in values)
    return {
        value: beginning if beginnings[beginning] == 1 else value
        for value in values
        for beginning in [_ENDINGS.sub("", value)]
    }


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", word.lower())


def bytes_of(text: str) -> int:
    """`16GiB`, `512m` or a number of bytes; the units are binary ones, as they are shown.

    Raises:
        UnusableOptions: It is no such text.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UnusableOptions(f"{text!r} is no size; write 16GiB, 512MiB or a number of bytes")
    number, unit = found.groups()
    return int(float(number) * 1024 ** ("kmgt".index(unit.lower()) + 1 if unit else 0))
