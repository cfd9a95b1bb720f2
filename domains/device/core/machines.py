"""The devices of this machine and of others, found in one go."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from domains.device.ports import DeviceProbe, OtherMachines
from domains.device.types import Adapter, Discovery


class AllMachines:
    """A probe of this machine that has others looked at meanwhile; see the port `DeviceProbe`.

    Args:
        here: Looks at this machine.
        others: Looks at the others.
    """

    def __init__(self, here: DeviceProbe, others: OtherMachines) -> None:
        self._here = here
        self._others = others

    def processor(self) -> Adapter:
        """This machine's."""
        return self._here.processor()

    async def discover(self) -> Discovery:
        """Find every adapter of every machine; others cost this one's nothing but time."""
        found, (elsewhere, unseen) = await asyncio.gather(
            self._here.discover(), self._others.look()
        )
        return replace(found, adapters=(*found.adapters, *elsewhere), unseen=unseen)
