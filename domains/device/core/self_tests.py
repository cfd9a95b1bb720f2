"""What devices can do: measured once by their workers, then remembered."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from domains.codec import Texts, Value
from domains.device.core import facts as kept
from domains.device.core.inventory import DeviceInventory
from domains.device.core.reporting import refuse_unusable
from domains.device.jobs import Capabilities, SelfTestFacts, SelfTestJob
from domains.device.ports import DeviceRuns, FactsStore, Workers
from domains.device.types import Device
from domains.session.core.jobs import run_job
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.types import Phase, SessionKind, WorkOptions
from domains.values import TensorDataType


class _Measured(Value, frozen=True):
    """What was measured, and with which driver and libraries."""

    driver_version: str
    runtime_version: str
    worker_versions: Texts
    facts: SelfTestFacts


class SelfTests:
    """Answers what a device can do; measures it once for a driver and its libraries.

    What was measured is kept by the adapter's identity and believed as long as its driver,
    its compute library and the libraries in its worker are those it was measured with.

    Args:
        inventory: Finds the device.
        runner: Runs the self-test as a session in the device's queue.
        runs: Does it on the device's worker.
        workers: The versions of their libraries.
        facts: Keeps what was measured.
    """

    def __init__(
        self,
        inventory: DeviceInventory,
        runner: SessionRunner,
        runs: DeviceRuns,
        workers: Workers,
        facts: FactsStore,
    ) -> None:
        self._inventory = inventory
        self._runner = runner
        self._runs = runs
        self._workers = workers
        self._facts = facts
        self._under_way: dict[str, asyncio.Task[SelfTestFacts]] = {}

    async def capabilities(self, name: str, *, refresh: bool = False) -> Capabilities:
        """What the device of that id or alias can do; with `refresh`, measured anew.

        Callers that come while it is measured wait for the same measurement. A caller that
        leaves does not end it: the next one finds it done.

        Raises:
            DeviceNotFound: There is none of that name.
            DiscoveryIncomplete: It may still be found.
            DomainError: It has to be measured, and the device cannot be used or its
                self-test failed.
        """
        device = (await self._inventory.get(name)).device
        known = None if refresh else self._known(device)
        if known is not None:
            return Capabilities(device.device_id, known)
        test = self._under_way.get(device.device_id)
        if test is None:
            refuse_unusable(await self._inventory.get(device.device_id))
            test = self._under_way.get(device.device_id) or self._begin(device)
        return Capabilities(device.device_id, await asyncio.shield(test))

    def half_precision(self, device_id: str) -> bool:
        """Whether a device was measured to compute right in 16 bits; False if nobody did."""
        found = [d for d in self._inventory.devices if d.device_id == device_id]
        facts = self._known(found[0]) if found else None
        narrow = (TensorDataType.FLOAT16, TensorDataType.BFLOAT16)
        return facts is not None and any(
            each.works and each.data_type in narrow for each in facts.data_types
        )

    def tflops(self, device_id: str) -> float | None:
        """The most a device was measured to multiply, in 10^12 operations a second."""
        found = [d for d in self._inventory.devices if d.device_id == device_id]
        facts = self._known(found[0]) if found else None
        if facts is None:
            return None
        return max((each.matmul_tflops for each in facts.data_types), default=0.0) or None

    def _begin(self, device: Device) -> asyncio.Task[SelfTestFacts]:
        test = asyncio.create_task(self._measure(device), name=f"test {device.device_id}")
        self._under_way[device.device_id] = test

        def over(ended: asyncio.Task[SelfTestFacts]) -> None:
            del self._under_way[device.device_id]
            if not ended.cancelled():
                ended.exception()  # known to the callers, if any of them stayed

        test.add_done_callback(over)
        return test

    async def _measure(self, device: Device) -> SelfTestFacts:
        measured: list[SelfTestFacts] = []

        async def test(session: Session) -> None:
            facts = await run_job(self._runs, session, SelfTestJob())
            self._keep(device, facts)
            measured.append(facts)

        async def prepare() -> SessionPlan:
            return SessionPlan(
                kind=SessionKind.DEVICE_TASK,
                device_id=device.device_id,
                expected_phases=(Phase.QUEUED, Phase.MEASURING),
                work=test,
            )

        request = SessionRequest(WorkOptions(), b"", prepare)
        async with aclosing(self._runner.run(request)) as events:
            async for _ in events:
                pass
        return measured[0]

    # What is kept.

    def _known(self, device: Device) -> SelfTestFacts | None:
        known = kept.recall(self._facts, _key(device), _Measured)
        if known is None or known.driver_version != device.driver_version:
            return None
        if known.runtime_version != device.runtime_version:
            return None
        worker = dict(self._workers.status(device.device_id).software_versions)
        if worker and known.worker_versions != worker:
            return None
        return known.facts

    def _keep(self, device: Device, facts: SelfTestFacts) -> None:
        versions = dict(self._workers.status(device.device_id).software_versions)
        measured = _Measured(device.driver_version, device.runtime_version, versions, facts)
        kept.note(self._facts, _key(device), measured)


def _key(device: Device) -> str:
    # An identity is one among its machine's: all processors of a make have one name.
    where = f"{device.node}:" if device.node else ""
    return f"device.capabilities/{where}{device.kind.value}/{device.identity or device.name}"
