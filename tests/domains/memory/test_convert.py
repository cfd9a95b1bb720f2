"""Memory on the wire: every figure keeps its source, an unknown one has no number."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime

from deviceops.v1 import common_pb2, memory_pb2
from domains.conversions import DATA_TYPES, QUALITIES, REASONS, byte_figure
from domains.device.types import DeviceMemory
from domains.errors import Reason
from domains.memory.convert import leases, status
from domains.memory.convert.status import LEVELS
from domains.memory.types import HostMemory, MemoryStatus, Place, PressureLevel
from domains.values import ByteFigure, DataType, FigureQuality


def _figures(cls: type) -> dict[str, ByteFigure]:
    """A different figure for every field."""
    names = [field.name for field in fields(cls) if field.name != "device_id"]
    return {name: ByteFigure.measured(n, name) for n, name in enumerate(names, 1)}


def test_every_figure_arrives_in_its_own_field() -> None:
    now = MemoryStatus(
        HostMemory(**_figures(HostMemory)),
        (DeviceMemory("cuda:0", **_figures(DeviceMemory)),),
        datetime(2026, 1, 2, tzinfo=UTC),
    )

    message = status.status_to_proto(now)

    for name, figure in _figures(HostMemory).items():
        assert getattr(message.host, name) == byte_figure(figure)
    for name, figure in _figures(DeviceMemory).items():
        assert getattr(message.devices[0], name) == byte_figure(figure)
    assert message.devices[0].device_id == "cuda:0"
    assert message.read_time.ToDatetime(UTC) == now.read_time


def test_without_a_container_there_is_no_limit() -> None:
    host = replace(HostMemory(**_figures(HostMemory)), container_limit=None)

    assert not status.host_to_proto(host).HasField("container_limit")


def test_an_unknown_figure_has_no_number_and_zero_is_one() -> None:
    unknown = byte_figure(ByteFigure.unknown("the driver does not tell"))
    nothing = byte_figure(ByteFigure.measured(0, "counted"))

    assert not unknown.HasField("value_bytes")
    assert unknown.source == "the driver does not tell"
    assert nothing.HasField("value_bytes")


def test_shared_enums_map_completely() -> None:
    qualities = {QUALITIES.to_proto(quality) for quality in FigureQuality}
    data_types = {DATA_TYPES.to_proto(data_type) for data_type in DataType}
    reasons = {REASONS.to_proto(reason) for reason in Reason}

    assert qualities == set(common_pb2.FigureQuality.values()) - {0}
    assert data_types == set(common_pb2.DataType.values()) - {0}
    assert reasons == set(common_pb2.ErrorReason.values()) - {0}


def test_places_go_both_ways_and_nothing_is_no_place() -> None:
    for place in (Place(), Place(pinned=True), Place("cuda:0")):
        assert leases.place_from_proto(status.place_to_proto(place)) == place
    assert leases.place_from_proto(memory_pb2.MemoryPlace()) is None


def test_an_empty_device_id_is_not_main_memory() -> None:
    place = leases.place_from_proto(memory_pb2.MemoryPlace(device_id=""))

    assert place is not None
    assert not place.host


def test_pressure_levels_map_completely() -> None:
    levels = {LEVELS.to_proto(level) for level in PressureLevel}

    assert levels == set(memory_pb2.PressureLevel.values()) - {0}
