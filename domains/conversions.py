"""Conversions that every domain's convert module shares.

Only convert modules import this: it knows protobuf, which cores do not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar, overload

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from deviceops.v1 import common_pb2, errors_pb2
from domains.codec import Value
from domains.errors import (
    DomainError,
    FeatureNotBuilt,
    FieldViolation,
    InvalidArgument,
    Reason,
)
from domains.limits import LIMITS, Limit
from domains.values import (
    ByteFigure,
    FigureQuality,
    ModelPart,
    PartDataType,
    TensorDataType,
    Toggle,
)

E = TypeVar("E", bound=Enum)
V = TypeVar("V", bound=int)
T = TypeVar("T")
M = TypeVar("M", bound=Message)


class _Wrapper(Protocol[V]):
    def Value(self, name: str) -> V: ...

    def Name(self, number: V) -> str: ...

    def values(self) -> Sequence[V]: ...


class EnumMap(Generic[E, V]):
    """A Python enum and the proto enum with the same names behind a prefix.

    Zero (`_UNSPECIFIED`) has no member: a default takes its place. Numbers that the
    proto enum does not have, from a newer client, are refused, and so are values that it
    has and this version does nothing with; `field` is where in the request they stood.

    Args:
        members: The Python enum.
        wrapper: The generated enum.
        prefix: What precedes the names in the proto enum, with its underscore.
        zero: The member that `_UNSPECIFIED` means, where it means one.
    """

    def __init__(
        self, members: type[E], wrapper: _Wrapper[V], prefix: str, *, zero: E | None = None
    ) -> None:
        self._zero = zero
        self._prefix = prefix
        self._name_of = wrapper.Name
        self._known = frozenset(wrapper.values())
        self._unspecified = wrapper.Value(prefix + "UNSPECIFIED")
        self._numbers: dict[E, V] = {
            member: wrapper.Value(prefix + member.name)
            for member in members
            if member is not zero
        }
        self._members: dict[int, E] = {
            number: member for member, number in self._numbers.items()
        }

    def to_proto(self, member: E | None) -> V:
        """The member's number; that of `_UNSPECIFIED` for None."""
        if member is None or member is self._zero:
            return self._unspecified
        return self._numbers[member]

    def from_proto(self, number: int, default: E, *, field: str = "") -> E:
        """The number's member, or `default` for 0.

        Raises:
            InvalidArgument: ENUM_VALUE_UNKNOWN.
            FeatureNotBuilt: The contract has it, and no member stands for it.
        """
        member = self.optional_from_proto(number, field=field)
        return default if member is None else member

    def optional_from_proto(self, number: int, *, field: str = "") -> E | None:
        """The number's member; for 0 the member it means, or None.

        Raises:
            InvalidArgument: ENUM_VALUE_UNKNOWN.
            FeatureNotBuilt: The contract has it, and no member stands for it.
        """
        if not number:
            return self._zero
        if number in self._members:
            return self._members[number]
        raise self._refusal(number, field)

    def _refusal(self, number: int, field: str) -> DomainError:
        known_number = next((known for known in self._known if known == number), None)
        if known_number is not None:
            return FeatureNotBuilt((self._name_of(known_number),))
        known = ", ".join(f"{self._prefix}{member.name}" for member in self._numbers)
        where = field or self._prefix.rstrip("_").lower()
        rule = f"Must be one of {known}."
        return InvalidArgument.of(FieldViolation(where, Reason.ENUM_VALUE_UNKNOWN, rule))


def scalars_from(message: Message, kind: type[Value]) -> dict[str, Any]:
    """What `message` sets of the plain fields that `kind` has under the same names.

    Numbers, texts and lists of such; an absent `optional` field is left out, so that the
    default of `kind` holds. Enums and messages are the caller's.
    """
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.name not in kind.__struct_fields__ or not _plain(field):
            continue
        if field.is_repeated:
            found[field.name] = tuple(getattr(message, field.name))
        elif not field.has_presence or message.HasField(field.name):
            found[field.name] = getattr(message, field.name)
    return found


def scalars_of(value: Value, message: type[Message]) -> dict[str, Any]:
    """The plain fields of `value` that `message` has under the same names."""
    return {
        field.name: getattr(value, field.name)
        for field in message.DESCRIPTOR.fields
        if field.name in value.__struct_fields__ and _plain(field)
    }


def _plain(field: Any) -> bool:
    return field.enum_type is None and field.message_type is None


def timestamp(when: datetime | None) -> Timestamp | None:
    """A timezone-aware moment as Timestamp; None stays absent."""
    if when is None:
        return None
    result = Timestamp()
    result.FromDatetime(when)
    return result


def moment(message: Message, field: str, path: str) -> datetime | None:
    """The moment in a field that may be absent; `path` is where it stands in the request.

    Raises:
        InvalidArgument: FIELD_OUT_OF_RANGE where no calendar has it.
    """
    if not message.HasField(field):
        return None
    value: Timestamp = getattr(message, field)
    try:
        return value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        rule = "Must be a moment of the years 1 to 9999."
        violation = FieldViolation(path, Reason.FIELD_OUT_OF_RANGE, rule)
        raise InvalidArgument.of(violation) from None


def duration(seconds: float | None) -> Duration | None:
    """Seconds as Duration, to the microsecond; None stays absent."""
    if seconds is None:
        return None
    result = Duration()
    result.FromMicroseconds(round(seconds * 1_000_000))
    return result


def duration_statistics(
    newest: Sequence[float], *, count: int | None = None, total: float | None = None
) -> common_pb2.DurationStatistics | None:
    """Percentiles of times in seconds, by the nearest rank; absent where there are none.

    Args:
        newest: What percentiles are taken of.
        count: Of how many times these are the newest; None where they are all.
        total: The sum of those, in seconds.
    """
    if not newest:
        return None
    ranked = sorted(1_000 * each for each in newest)
    return common_pb2.DurationStatistics(
        count=len(ranked) if count is None else count,
        total_ms=sum(ranked) if total is None else 1_000 * total,
        p50_ms=ranked[math.ceil(0.50 * len(ranked)) - 1],
        p99_ms=ranked[math.ceil(0.99 * len(ranked)) - 1],
    )


def seconds(message: Duration) -> float:
    """A Duration's seconds, whatever a client put into its fields."""
    return message.seconds + message.nanos / 1e9


def given(message: Message, field: str) -> float:
    """A number, or a duration in seconds; the contract's default where the client set none."""
    if not message.HasField(field):
        default = LIMITS[f"{message.DESCRIPTOR.name}.{field}"].default
        assert default is not None
        return default
    value = getattr(message, field)
    return seconds(value) if isinstance(value, Duration) else value


@overload
def wished(message: Message, field: str) -> Any: ...


@overload
def wished(message: Message, field: str, convert: Callable[[Any], T]) -> T | None: ...


def wished(message: Message, field: str, convert: Callable[[Any], Any] | None = None) -> Any:
    """A field that may be absent, as `convert` has it; None where the client set none."""
    if not message.HasField(field):
        return None
    value = getattr(message, field)
    return value if convert is None else convert(value)


def digest(message: Message) -> bytes:
    """Stands for a request, so that its request_id is not used for another one.

    What is asked for and not how: requests are the same that differ in `options` and
    `delivery` alone.
    """
    asked = type(message)()
    asked.CopyFrom(message)
    for how in ("options", "delivery"):
        if how in asked.DESCRIPTOR.fields_by_name:
            asked.ClearField(how)
    name = asked.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + b"\0" + asked.SerializeToString(deterministic=True)).digest()


async def converted(items: AsyncGenerator[T], convert: Callable[[T], M]) -> AsyncGenerator[M]:
    """Each item as its message; `items` is closed when this is, however that comes."""
    async with aclosing(items):
        async for item in items:
            yield convert(item)


DATA_TYPES = EnumMap(TensorDataType, common_pb2.TensorDataType, "TENSOR_DATA_TYPE_")
MODEL_PARTS = EnumMap(ModelPart, common_pb2.ModelPart, "MODEL_PART_")
TOGGLES = EnumMap(Toggle, common_pb2.Toggle, "TOGGLE_", zero=Toggle.SERVER)
QUALITIES = EnumMap(FigureQuality, common_pb2.FigureQuality, "FIGURE_QUALITY_")
REASONS = EnumMap(Reason, errors_pb2.ErrorReason, "ERROR_REASON_")


def byte_figure(figure: ByteFigure) -> common_pb2.ByteFigure:
    """A number of bytes, without the number when it is unknown; a long source is cut."""
    return common_pb2.ByteFigure(
        value_bytes=figure.value,
        quality=QUALITIES.to_proto(figure.quality),
        source=figure.source[: LIMITS["ByteFigure.source"].max_characters],
    )


def part_data_types(parts: Iterable[PartDataType]) -> list[common_pb2.PartDataType]:
    """The data types of a model's parts."""
    return [
        common_pb2.PartDataType(
            part=MODEL_PARTS.to_proto(each.part), data_type=DATA_TYPES.to_proto(each.data_type)
        )
        for each in parts
    ]


def limit_to_proto(limit: Limit) -> common_pb2.FieldLimit:
    """One row of the limits table."""
    return common_pb2.FieldLimit(
        field=limit.field,
        minimum=limit.minimum,
        maximum=limit.maximum,
        multiple_of=limit.multiple_of,
        default_value=limit.default,
        max_elements=limit.max_elements,
        max_characters=limit.max_characters,
        max_size_bytes=limit.max_bytes,
        unit=limit.unit or "",
        required=limit.required,
    )
