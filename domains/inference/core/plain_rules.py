"""Rules that the table of limits has for every field by itself."""

from __future__ import annotations

from collections.abc import Iterator

from domains import checks
from domains.codec import Value
from domains.errors import FieldViolation, Reason
from domains.limits import LIMITS

# Why a number is refused, where it is not merely out of range; some have rules of their own.
_REASONS = {"width": Reason.DIMENSIONS_INVALID, "height": Reason.DIMENSIONS_INVALID}
_OF_THEIR_OWN = (
    "seed",
    "seeds",
    "loras",
    "embedding_model_ids",
    "control_nets",
    "image_prompts",
    "images",
    "sigmas",
)


def found(violation: FieldViolation | None) -> list[FieldViolation]:
    """The violation as a list, which is empty where there is none."""
    return [] if violation is None else [violation]


def plain(values: Value | None, message: str, path: str) -> Iterator[FieldViolation]:
    """Every text and number beyond its entry in the table of limits."""
    for name in () if values is None else values.__struct_fields__:
        limit, value = LIMITS.get(f"{message}.{name}"), getattr(values, name)
        if limit is None or value is None or name in _OF_THEIR_OWN:
            continue
        field = f"{path}.{name}"
        if isinstance(value, str):
            yield from found(checks.prose(field, value, limit))
        else:
            reason = _REASONS.get(name, Reason.FIELD_OUT_OF_RANGE)
            yield from found(checks.number(field, value, limit, reason=reason))
