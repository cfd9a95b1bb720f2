"""Memory on the wire: every figure keeps its source, an unknown one has no number."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime

from deviceops.v1 import common_pb2, errors_pb2, memory_history_pb2, memory_info_pb2, memory_pb2
from domains.conversions import DATA_TYPES, QUALITIES, REASONS, byte_figure
from domains.device.types import DeviceMemory
from domains.errors import Reason
from domains.memory.convert import leases, status, upkeep
from domains.memory.convert.status import LEVELS
from domains.memory.core.defragment import DefragmentAction
from domains.memory.types import (
    History,
    HolderUsage,
    HostMemory,
    MemoryHolder,
    MemoryStatus,
    Place,
    PressureLevel,
    Sample,
)
from domains.values import ByteFigure, FigureQuality, TensorDataType


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
    data_types = {DATA_TYPES.to_proto(data_type) for data_type in TensorDataType}
    reasons = {REASONS.to_proto(reason) for reason in Reason}

    assert qualities == set(common_pb2.FigureQuality.values()) - {0}
    assert data_types == set(common_pb2.TensorDataType.values()) - {0}
    assert reasons == set(errors_pb2.ErrorReason.values()) - {0}


def test_places_go_both_ways_and_nothing_is_no_place() -> None:
    for place in (Place(), Place(pinned=True), Place("cuda:0")):
        assert leases.place_from_proto(status.place_to_proto(place)) == place
    assert leases.place_from_proto(memory_info_pb2.MemoryPlace()) is None


def test_an_empty_device_id_is_not_main_memory() -> None:
    place = leases.place_from_proto(memory_info_pb2.MemoryPlace(device_id=""))

    assert place is not None
    assert not place.host


def test_pressure_levels_map_completely() -> None:
    levels = {LEVELS.to_proto(level) for level in PressureLevel}

    assert levels == set(memory_pb2.PressureLevel.values()) - {0}


def test_what_is_done_and_who_holds_map_completely() -> None:
    actions = {upkeep.ACTIONS.to_proto(action) for action in DefragmentAction}
    holders = {upkeep.HOLDERS.to_proto(holder) for holder in MemoryHolder}

    assert actions == set(memory_info_pb2.DefragmentAction.values()) - {0}
    assert holders == set(memory_history_pb2.MemoryHolder.values()) - {0}


def test_a_holder_is_a_model_or_one_of_a_kind() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    history = History(
        Place(),
        samples=(Sample(moment, 5, None),),
        holders=(HolderUsage("others", 1, 2), HolderUsage(MemoryHolder.OTHERS, 3, 4)),
    )

    model, others = upkeep.history_to_proto(history).holders

    assert (model.WhichOneof("holder"), model.model_id) == ("model_id", "others")
    assert others.WhichOneof("holder") == "kind"
    assert others.kind == memory_history_pb2.MEMORY_HOLDER_OTHERS
