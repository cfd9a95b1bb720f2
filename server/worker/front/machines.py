"""Looking at the other machines of a Ray cluster, in a process of its own: Ray may be missing,
and whatever it does costs the front nothing but time."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable, Sequence

import structlog
from msgspec.structs import replace

from domains.codec import decode_json
from domains.device.backends.answers import cleaned
from domains.device.types import Adapter
from server.worker.front.environment import child_environment, look_command
from server.worker.link.machines import Machine, Machines

LOOK_SECONDS = 150.0
_MAX_BYTES = 1 << 22
_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)
_TORCH_DEVICE = re.compile(r"cpu|(cuda|xpu|mps|privateuseone):\d{1,3}")

_log = structlog.get_logger("deviceops.devices")


class ClusterMachines:
    """The machines of a cluster; see the port `OtherMachines`.

    Args:
        address: Where the cluster's head listens.
        command: What starts the look, given the address.
        patience: Seconds for it.
    """

    def __init__(
        self,
        address: str,
        *,
        command: Callable[[str], Sequence[str]] = look_command,
        patience: float = LOOK_SECONDS,
    ) -> None:
        self._command = command(address)
        self._patience = patience
        self._told = ""

    async def look(self) -> tuple[tuple[Adapter, ...], str]:
        """Every adapter of every other machine, and why some could not be looked at."""
        found = await self._answer()
        reasons = [found.unseen, *(machine.unseen for machine in found.machines)]
        unseen = " ".join(filter(None, reasons))
        if unseen != self._told:  # once for as long as it lasts
            self._told = unseen
            _log.error("cluster_not_seen", why=unseen) if unseen else _log.info("cluster_seen")
        return tuple(a for machine in found.machines for a in _adapters_of(machine)), unseen

    async def _answer(self) -> Machines:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=child_environment(),
                limit=_MAX_BYTES,
                creationflags=_NO_WINDOW,
            )
        except OSError as error:
            return Machines(unseen=f"The cluster cannot be looked at ({error.strerror}).")
        try:
            assert process.stdout is not None
            async with asyncio.timeout(self._patience):
                return decode_json(Machines, await process.stdout.readline())
        except TimeoutError:
            why = f"The cluster did not answer within {self._patience:g} s."
        except ValueError:
            why = "What looks at the cluster ended without an answer that can be read."
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
        return Machines(unseen=why)


def _adapters_of(machine: Machine) -> list[Adapter]:
    """Its adapters as they can be shown and used."""
    return [
        replace(cleaned(each), node=machine.node)
        for each in machine.adapters
        if _TORCH_DEVICE.fullmatch(each.torch_device)
    ]
