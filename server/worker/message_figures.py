"""Memory figures and loaded networks over the worker link."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from deviceops.v1 import common_pb2
from deviceops.worker.v1 import worker_pb2
from domains.conversions import byte_figure, timestamp
from domains.device.types import DeviceFigures, LoadedComponent
from domains.values import ByteFigure, DataType, FigureQuality
from server.worker.frames import ProtocolError
from server.worker.message_checks import check_name, known, printable, within
from server.worker.message_enums import QUALITIES

MOST_BYTES = 1 << 50
"""More than any device has."""
_MOST_COMPONENTS = 64
_DATA_TYPES = {""} | {member.value for member in DataType}
# Protobuf's own range of times.
_LAST_SECOND = 253_402_300_799


def figures_to_proto(figures: DeviceFigures) -> worker_pb2.DeviceFigures:
    """A device's memory."""
    return worker_pb2.DeviceFigures(
        total=byte_figure(figures.total),
        free=byte_figure(figures.free),
        allocated=byte_figure(figures.allocated),
        reserved=byte_figure(figures.reserved),
        peak_allocated=byte_figure(figures.peak_allocated),
        largest_free=byte_figure(figures.largest_free),
        inactive_split=byte_figure(figures.inactive_split),
        leased_bytes=figures.leased_bytes,
        models=components_to_proto(figures.models),
        read_time=timestamp(figures.read_time),
    )


def figures_from_proto(message: worker_pb2.DeviceFigures) -> DeviceFigures:
    """The inverse.

    Raises:
        ProtocolError: A figure is absurd or has no source.
    """
    return DeviceFigures(
        total=figure_from_proto(message.total, "total"),
        free=figure_from_proto(message.free, "free"),
        allocated=figure_from_proto(message.allocated, "allocated"),
        reserved=figure_from_proto(message.reserved, "reserved"),
        peak_allocated=figure_from_proto(message.peak_allocated, "peak_allocated"),
        largest_free=figure_from_proto(message.largest_free, "largest_free"),
        inactive_split=figure_from_proto(message.inactive_split, "inactive_split"),
        leased_bytes=within(message.leased_bytes, 0, MOST_BYTES, "leased_bytes"),
        models=components_from_proto(message.models, "models"),
        read_time=time_from_proto(message.read_time, "read_time"),
    )


def figure_from_proto(message: common_pb2.ByteFigure, field: str) -> ByteFigure:
    """A figure: with a value unless it is unknown, and always with its source."""
    quality = known(QUALITIES, message.quality, field)
    if message.HasField("value_bytes") is (quality is FigureQuality.UNKNOWN):
        raise ProtocolError(f"{field} has a value and is unknown, or neither")
    source = printable(message.source, field, longest=200)
    if not source:
        raise ProtocolError(f"{field} has no source")
    if quality is FigureQuality.UNKNOWN:
        return ByteFigure(None, quality, source)
    return ByteFigure(within(message.value_bytes, 0, MOST_BYTES, field), quality, source)


def components_to_proto(
    components: Iterable[LoadedComponent],
) -> list[worker_pb2.LoadedComponent]:
    """Networks as a worker holds them; those beyond the most that a frame may hold stay."""
    return [
        worker_pb2.LoadedComponent(
            model_id=component.model_id,
            component=component.component,
            size=byte_figure(component.size),
            data_type=component.data_type.value if component.data_type else "",
            last_use_time=timestamp(component.last_use_time),
            in_use=component.in_use,
        )
        for component in tuple(components)[:_MOST_COMPONENTS]
    ]


def components_from_proto(
    messages: Iterable[worker_pb2.LoadedComponent], field: str
) -> tuple[LoadedComponent, ...]:
    """The inverse.

    Raises:
        ProtocolError: There are too many, or one is malformed.
    """
    listed = tuple(messages)
    if len(listed) > _MOST_COMPONENTS:
        raise ProtocolError(f"{field} has too many components")
    return tuple(map(_component_from_proto, listed))


def _component_from_proto(message: worker_pb2.LoadedComponent) -> LoadedComponent:
    if message.data_type not in _DATA_TYPES:
        raise ProtocolError("data_type is no data type")
    return LoadedComponent(
        model_id=printable(message.model_id, "model_id", longest=256),
        component=check_name(message.component, "component", longest=128),
        size=figure_from_proto(message.size, "size"),
        data_type=DataType(message.data_type) if message.data_type else None,
        last_use_time=time_from_proto(message.last_use_time, "last_use_time"),
        in_use=message.in_use,
    )


def time_from_proto(message: Timestamp, field: str) -> datetime:
    """A time of this era."""
    seconds = within(message.seconds, 0, _LAST_SECOND, field)
    micros = within(message.nanos, 0, 999_999_999, field) // 1000
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
