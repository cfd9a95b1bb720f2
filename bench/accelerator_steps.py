"""The steps of `bench.accelerator_memory`: each one thing that a client would do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import grpc.aio

from bench.accelerator_session import GIB, MIB, Session, figure, refusal
from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    device_pb2,
    memory_history_pb2,
    memory_info_pb2,
    memory_pb2,
)

_HOST = memory_info_pb2.MemoryPlace(host=memory_info_pb2.HostMemory())
_PINNED = memory_info_pb2.MemoryPlace(host=memory_info_pb2.HostMemory(pinned=True))


async def discover(session: Session) -> None:
    """List the devices and wait for the one this is about."""
    device, metadata = session.client.device, session.client.metadata
    request = device_pb2.ListDevicesRequest()
    deadline = time.monotonic() + 90
    while True:
        answer = await device.ListDevices(request, metadata=metadata)
        ready = {
            one.device_id: one
            for one in answer.devices
            if one.state == device_info_pb2.DEVICE_STATE_READY
        }
        if session.device_id in ready or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    for one in answer.devices:
        state = device_info_pb2.DeviceState.Name(one.state).removeprefix("DEVICE_STATE_")
        session.say(
            f"- {one.device_id}: {one.name}, {state}, driver {one.driver_version or '-'}, "
            f"{one.runtime_version}, {figure(one.total_memory)} {one.explanation}"
        )
    for probe in answer.probes:
        kind = device_info_pb2.DeviceKind.Name(probe.kind).removeprefix("DEVICE_KIND_")
        session.say(f"- no {kind}: {probe.explanation}")
    assert session.device_id in ready, "the device is not ready"


async def capabilities(session: Session) -> None:
    """The self-test."""
    facts = await session.client.device.GetDeviceCapabilities(
        device_pb2.GetDeviceCapabilitiesRequest(device_id=session.device_id),
        metadata=session.client.metadata,
    )
    for one in facts.data_types:
        name = common_pb2.TensorDataType.Name(one.data_type).removeprefix("DATA_TYPE_").lower()
        session.say(
            f"- {name}: {'works' if one.works else 'does not work'}, error "
            f"{one.max_relative_error:.2e}, {one.matmul_tflops:.1f} TFLOP/s"
        )
    session.say(f"- largest allocation: {figure(facts.largest_allocation)}")
    attention = ", ".join(map(device_pb2.AttentionBackend.Name, facts.attention_backends))
    session.say(
        f"- attention {attention}; float64 {facts.has_float64}; "
        f"pinned {facts.has_pinned_memory}; compilation {facts.has_compilation}; "
        f"host to device {facts.host_to_device_gbps:.1f} GB/s, back "
        f"{facts.device_to_host_gbps:.1f} GB/s"
    )
    for problem in facts.problems:
        session.say(f"- problem: {problem}")


async def status(session: Session) -> None:
    """Telemetry and memory figures."""
    found = await session.client.device.GetDeviceStatus(
        device_pb2.GetDeviceStatusRequest(device_id=session.device_id),
        metadata=session.client.metadata,
    )
    for name in ("load", "temperature_celsius", "power_watts"):
        told = f"{getattr(found, name):.2f}" if found.HasField(name) else "not told"
        session.say(f"- {name}: {told}")
    memory = await session.memory()
    for name in ("total", "free", "allocated", "reserved", "used_by_others", "peak_allocated"):
        session.say(f"- {name}: {figure(getattr(memory, name))}")


async def copies(session: Session) -> None:
    """Copy speeds: pageable against pinned, verified and not."""
    size = GIB
    device = await session.allocate(session.place, size)
    for label, place in (("pageable", _HOST), ("pinned", _PINNED)):
        host = await session.allocate(place, size)
        for way, pair in (("to device", (host, device)), ("to host", (device, host))):
            for verified in (False, True):
                best = min([await _copy(session, *pair, verified) for _ in range(3)])
                how = "verified" if verified else "unverified"
                session.say(f"- {label} {way}, {how}: {size / best / 1e9:.2f} GB/s")
        await session.free(host)
    await session.free(device)


async def _copy(session: Session, source: str, target: str, verified: bool) -> float:
    request = memory_pb2.CopyAllocationRequest(
        source_allocation_id=source,
        target_allocation_id=target,
        skip_verification=not verified,
    )
    start = time.perf_counter()
    async for _ in session.client.memory.CopyAllocation(
        request, metadata=session.client.metadata
    ):
        pass
    return time.perf_counter() - start


async def transfer(session: Session) -> None:
    """Move an allocation off the device and back."""
    moved = await session.allocate(session.place, 256 * MIB)
    for place in (_HOST, session.place):
        start = time.perf_counter()
        request = memory_pb2.TransferAllocationRequest(allocation_id=moved, place=place)
        async for _ in session.client.memory.TransferAllocation(
            request, metadata=session.client.metadata
        ):
            pass
        seconds = time.perf_counter() - start
        session.say(f"- 256 MiB to {place.WhichOneof('place')}: {seconds * 1000:.0f} ms")
    await session.free(moved)


async def allocation_exhausted(session: Session) -> None:
    """Allocate until refused; then a smaller one works and freeing gives all back."""
    before = (await session.memory()).free.value_bytes
    taken: list[str] = []
    step = 8 * GIB
    try:
        while len(taken) < 200:
            taken.append(await session.allocate(session.place, step))
    except grpc.aio.AioRpcError as error:
        session.say(f"- after {len(taken)} x 8 GiB: {refusal(error)}")
    taken.append(await session.allocate(session.place, 64 * MIB))
    session.say("- the next 64 MiB: lent")
    await session.free(*taken)
    after = (await session.memory()).free.value_bytes
    session.say(f"- free before {before / GIB:.3f} GiB, after {after / GIB:.3f} GiB")


async def generation_exhausted(session: Session) -> None:
    """With the device nearly full a large picture fails or is tiled; a small one works."""
    await session.draw(256)
    free = (await session.memory()).free.value_bytes
    room = 400 * MIB
    filler = await session.allocate(session.place, max(free - room, MIB))
    for precision in ("exact", "open"):
        try:
            outcome = await session.draw(2048, precision, steps=1)
        except grpc.aio.AioRpcError as error:
            outcome = refusal(error)
        session.say(f"- 2048 x 2048, {precision}, {room // MIB} MiB free: {outcome}")
        session.say(f"- then 256 x 256: {await session.draw(256)}")
    await session.free(filler)
    session.say(f"- 2048 x 2048 with room: {await session.draw(2048, steps=1)}")


async def profiles(session: Session) -> None:
    """Each profile with its effect on a real step."""
    for profile in (
        device_info_pb2.OPTIMIZATION_PROFILE_LOW_MEMORY,
        device_info_pb2.OPTIMIZATION_PROFILE_FAST,
        device_info_pb2.OPTIMIZATION_PROFILE_BALANCED,
    ):
        request = device_pb2.OptimizeDeviceRequest(device_id=session.device_id, profile=profile)
        async for response in session.client.device.OptimizeDevice(
            request, metadata=session.client.metadata
        ):
            completed = response.event.completed
            if not completed.HasField("optimization"):
                continue
            report = completed.optimization
            name = device_info_pb2.OptimizationProfile.Name(report.profile)
            session.say(
                f"- {name.removeprefix('OPTIMIZATION_PROFILE_')}: step "
                f"{report.step_before.ToMicroseconds() / 1000:.2f} ms -> "
                f"{report.step_after.ToMicroseconds() / 1000:.2f} ms, peak "
                f"{figure(report.peak_memory_before)} -> {figure(report.peak_memory_after)}"
            )
            for change in report.changes:
                setting = device_info_pb2.OptimizationSetting.Name(change.setting)
                part = common_pb2.ModelPart.Name(change.part)
                session.say(f"  - {setting} of {part}: {change.before} -> {change.after}")


async def defragmentation(session: Session) -> None:
    """Each depth, on a device with a model on it."""
    await session.draw(512)
    for depth in (1, 2, 3):
        request = memory_pb2.DefragmentRequest(
            device_id=session.device_id,
            depth=memory_info_pb2.DefragmentDepth.ValueType(depth),
        )
        async for response in session.client.memory.Defragment(
            request, metadata=session.client.metadata
        ):
            if response.event.completed.HasField("defragmentation"):
                report = response.event.completed.defragmentation
                session.say(
                    f"- {memory_info_pb2.DefragmentDepth.Name(report.depth)}: free "
                    f"{figure(report.free_before)} -> {figure(report.free_after)}; "
                    + ", ".join(map(memory_info_pb2.DefragmentAction.Name, report.actions))
                    + f"; released {figure(report.released)}, models "
                    f"{', '.join(report.model_ids) or 'none'}, allocations lost "
                    f"{report.lost_allocation_bytes} bytes"
                )


def _holder(usage: memory_history_pb2.HolderUsage) -> str:
    kind = memory_history_pb2.MemoryHolder.Name(usage.kind).removeprefix("MEMORY_HOLDER_")
    return usage.model_id or kind.lower()


async def history(session: Session) -> None:
    """What the pass left in the history, and the advice that follows."""
    metadata = session.client.metadata
    answer = await session.client.memory.GetMemoryAnalytics(
        memory_history_pb2.GetMemoryAnalyticsRequest(device_id=session.device_id),
        metadata=metadata,
    )
    for one in answer.histories:
        owners = ", ".join(
            f"{_holder(each)} {each.peak_bytes / GIB:.2f} GiB" for each in one.holders
        )
        session.say(
            f"- {one.place.device_id or 'host'}: peak {one.peak_bytes / GIB:.2f} GiB, p50 "
            f"{one.p50_bytes / GIB:.2f}, p95 {one.p95_bytes / GIB:.2f}; evictions "
            f"{one.eviction_count}, out of memory {one.out_of_memory_count}; peaks: {owners}"
        )
    advice = await session.client.memory.GetMemoryRecommendations(
        memory_history_pb2.GetMemoryRecommendationsRequest(), metadata=metadata
    )
    for found in advice.recommendations:
        kind = memory_history_pb2.RecommendationKind.Name(found.kind)
        session.say(f"- {kind.removeprefix('RECOMMENDATION_KIND_')}: {found.description}")


STEPS: tuple[tuple[str, Callable[[Session], Awaitable[None]]], ...] = (
    ("Discovery", discover),
    ("Capabilities, measured", capabilities),
    ("Status", status),
    ("Copies of 1 GiB", copies),
    ("Transfer", transfer),
    ("Allocation until refused, and after", allocation_exhausted),
    ("Generation without room, and after", generation_exhausted),
    ("Profiles", profiles),
    ("Defragmentation", defragmentation),
    ("History and advice", history),
)
