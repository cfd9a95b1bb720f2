"""Copies between places through the contract, against plain copies of the same size.

Both arms do the same to memory whose pages are there and were touched before: a plain copy,
or one followed by a plain comparison where the server's is verified.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bench.measure import Arm, Sample, interleave
from bench.outcome import Outcome, compare
from deviceops.v1 import memory_info_pb2, memory_pb2
from tests.running import Client, start_server

MIB = 1 << 20
# A copy of ours is to reach 80 % of the plain one's speed.
_LIMIT = 1 / 0.8
_WARM_UPS = 1
_PAUSE = 0.05  # seconds: what one arm leaves behind does not slow the other
_HOST = memory_info_pb2.MemoryPlace(host=memory_info_pb2.HostMemory())

Plain = Callable[[], object]


async def copy_throughput(rounds: int, size: int, device_id: str = "cpu:0") -> list[Outcome]:
    """Host to host, host to device, device to host; verified and not.

    Args:
        rounds: Copies of each kind.
        size: Bytes of a copy.
        device_id: The device; its worker must be able to hold `size`.
    """
    device = memory_info_pb2.MemoryPlace(device_id=device_id)
    ways = {
        "host-to-host": (_HOST, _HOST),
        "host-to-device": (_HOST, device),
        "device-to-host": (device, _HOST),
    }
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder,
        start_server(Path(folder)) as server,
    ):
        async with server.client() as client:
            await _started(client, device)
            for name, (source, target) in ways.items():
                for verified in (False, True):
                    outcomes.append(
                        await _measure(client, name, source, target, size, rounds, verified)
                    )
    return outcomes


async def _measure(
    client: Client,
    name: str,
    source: memory_info_pb2.MemoryPlace,
    target: memory_info_pb2.MemoryPlace,
    size: int,
    rounds: int,
    verified: bool,
) -> Outcome:
    ids = [await _allocate(client, place, size) for place in (source, target)]
    plain, label = _plain(name, size, verified)

    async def ours(_round: int) -> Sample:
        request = memory_pb2.CopyAllocationRequest(
            source_allocation_id=ids[0],
            target_allocation_id=ids[1],
            skip_verification=not verified,
        )
        await asyncio.sleep(_PAUSE)
        start = time.perf_counter()
        async for response in client.memory.CopyAllocation(request, metadata=client.metadata):
            kind = response.event.WhichOneof("event")
        assert kind == "completed", kind
        return _sample(time.perf_counter() - start, size)

    async def theirs(_round: int) -> Sample:
        await asyncio.sleep(_PAUSE)
        start = time.perf_counter()
        await asyncio.to_thread(plain)
        return _sample(time.perf_counter() - start, size)

    try:
        samples = await interleave(
            [Arm("copy", ours), Arm(label, theirs)], rounds=rounds, warm_ups=_WARM_UPS
        )
    finally:
        for allocation_id in ids:
            await _free(client, allocation_id)
    how = "verified" if verified else "unverified"
    return compare(
        f"copy-{name}-{how}-{size // MIB}",
        f"MemoryService.CopyAllocation of {size // MIB} MiB, {how}, from the call to its last "
        f"event, against {label} of the same size",
        samples,
        subject="copy",
        baseline=label,
        limit=_LIMIT,
        settings={"size_mib": size // MIB, "rounds": rounds, "warm_ups": _WARM_UPS},
    )


def _sample(seconds: float, size: int) -> Sample:
    return Sample(seconds, {"gbps": size / seconds / 1e9})


async def _allocate(client: Client, place: memory_info_pb2.MemoryPlace, size: int) -> str:
    request = memory_pb2.CreateAllocationRequest(place=place, size_bytes=size)
    request.lease.FromSeconds(3600)
    # A worker may still be starting.
    for attempt in range(60):
        try:
            answer = await client.memory.CreateAllocation(request, metadata=client.metadata)
        except Exception:
            if attempt == 59:
                raise
            await asyncio.sleep(1.0)
        else:
            return str(answer.allocation.allocation_id)
    raise AssertionError("unreachable")


async def _started(client: Client, device: memory_info_pb2.MemoryPlace) -> None:
    """Return when the device's worker serves: starting it takes the processors."""
    await _free(client, await _allocate(client, device, 1))


async def _free(client: Client, allocation_id: str) -> None:
    request = memory_pb2.DeleteAllocationRequest(allocation_id=allocation_id)
    await client.memory.DeleteAllocation(request, metadata=client.metadata)


def _plain(name: str, size: int, verified: bool) -> tuple[Plain, str]:
    """A copy within this process, memory touched beforehand, and what it is called."""
    if name == "host-to-host":
        memories = mmap.mmap(-1, size), mmap.mmap(-1, size)
        source, target = [(ctypes.c_char * size).from_buffer(one) for one in memories]
        ctypes.memset(source, 1, size)
        ctypes.memset(target, 2, size)
        addresses = ctypes.addressof(target), ctypes.addressof(source)

        def copy() -> None:
            ctypes.memmove(target, source, size)
    else:
        one = torch.ones(size, dtype=torch.uint8)
        other = torch.zeros(size, dtype=torch.uint8)
        addresses = other.data_ptr(), one.data_ptr()

        def copy() -> None:
            other.copy_(one)

    memcmp = ctypes.CDLL(None).memcmp
    memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

    def plain() -> None:
        copy()
        assert not verified or memcmp(*addresses, size) == 0

    label = "memmove" if name == "host-to-host" else "torch copy_"
    return plain, f"{label} and memcmp" if verified else label
