"""Stand-ins for the ports of the device domain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from domains.device.types import (
    Adapter,
    Device,
    DeviceKind,
    DeviceState,
    Discovery,
    ProbeOutcome,
    WorkerStatus,
)
from domains.values import ByteFigure

PROCESSOR = Adapter(
    kind=DeviceKind.CPU,
    name="A processor",
    vendor="AMD",
    torch_device="cpu",
    total_memory=ByteFigure.measured(16 << 30, "a fake"),
)


def card(
    index: int, kind: DeviceKind = DeviceKind.CUDA, *, slot: str = "", hardware_id: str = ""
) -> Adapter:
    """An adapter that torch calls `cuda:<index>`, or as its kind does."""
    words = {DeviceKind.ROCM: "cuda", DeviceKind.DIRECT_ML: "privateuseone"}
    return Adapter(
        kind=kind,
        name=f"Card {index}",
        vendor="NVIDIA",
        torch_device=f"{words.get(kind, kind.value)}:{index}",
        total_memory=ByteFigure.unknown("a fake tells nothing"),
        slot=slot,
        hardware_id=hardware_id,
    )


class FakeProbe:
    """Finds what it is told to; waits for `release` when it is not set."""

    def __init__(
        self, *adapters: Adapter, why: str = "torch was built without it", held: bool = False
    ) -> None:
        self.adapters = list(adapters)
        self.why = why
        self.looks = 0
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        if not held:
            self.release.set()

    def processor(self) -> Adapter:
        return PROCESSOR

    async def discover(self) -> Discovery:
        self.looks += 1
        self.started.set()
        await self.release.wait()
        counts = dict.fromkeys(DeviceKind, 0) | {DeviceKind.CPU: 1}
        for adapter in self.adapters:
            counts[adapter.kind] += 1
        return Discovery(
            (PROCESSOR, *self.adapters),
            tuple(
                ProbeOutcome(kind, count, "" if count else self.why)
                for kind, count in counts.items()
            ),
        )


class FakeWorkers:
    """Every worker is READY unless said otherwise."""

    def __init__(self) -> None:
        self.statuses: dict[str, WorkerStatus] = {}
        self.started: list[str] = []

    async def start(self, devices: Sequence[Device]) -> None:
        self.started += [d.device_id for d in devices if d.device_id not in self.started]

    def set(self, device_id: str, state: DeviceState, explanation: str = "") -> None:
        self.statuses[device_id] = WorkerStatus(state, explanation)

    def status(self, device_id: str) -> WorkerStatus:
        return self.statuses.get(device_id, WorkerStatus(DeviceState.READY))


def unusable(adapter: Adapter, why: str) -> Adapter:
    """The same adapter, found and not fit for work."""
    return replace(adapter, explanation=why)
