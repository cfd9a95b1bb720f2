"""A machine with cards for a real server: adapters that compute on the processor.

Each gets a real worker process with the real engine; only what discovery says is made up.
"""

from __future__ import annotations

from msgspec.structs import replace

from domains.device.backends import cpu
from domains.device.types import Adapter, DeviceKind, Discovery, ProbeOutcome
from tests.fakes.device import card


def computing_card(index: int) -> Adapter:
    """The CUDA adapter of that number, whose worker computes on the processor."""
    return replace(
        card(index, hardware_id=f"GPU-{index}", slot=f"0000:0{index}:00.0"),
        torch_device="cpu",
    )


class CardsProbe:
    """Finds the machine's processor and those cards, without asking any driver."""

    def __init__(self, *cards: Adapter) -> None:
        self._cards = cards

    def processor(self) -> Adapter:
        return cpu.find(torch_is_elsewhere=False)

    async def discover(self) -> Discovery:
        counts = dict.fromkeys(DeviceKind, 0) | {DeviceKind.CPU: 1}
        counts[DeviceKind.CUDA] = len(self._cards)
        return Discovery(
            (self.processor(), *self._cards),
            tuple(
                ProbeOutcome(kind, count, "" if count else "this machine has none")
                for kind, count in counts.items()
            ),
        )
