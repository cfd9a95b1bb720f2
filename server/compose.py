"""The whole system in the order of dependence: what is built from what, begins and ends."""

from __future__ import annotations

import asyncio

from domains.artifact import build as artifact
from domains.artifact.types import Thumbnail
from domains.clock import Clock
from domains.device import build as device
from domains.device.types import DeviceKind
from domains.inference import build as inference
from domains.memory import build as memory
from domains.memory.types import Place
from domains.model import build as model
from domains.picture import build as picture
from domains.postprocessing import build as postprocessing
from domains.postprocessing.safety import build as safety
from domains.processing import build as processing
from domains.processing.batches import build as batches
from domains.processing.workflows import build as workflows
from domains.provenance import build as provenance
from domains.session import build as session
from domains.uploads import EXPIRY_SECONDS
from server import heap
from server.background import Background
from server.config import Settings
from server.errors import describe_failure
from server.journal import Journal
from server.logs import safety_decided
from server.roles import least_role
from server.system import Standing, SystemServicer, built_methods
from server.version import own_version
from server.worker.front.inspectors import InspectorOptions, Inspectors
from server.worker.front.machines import ClusterMachines
from server.worker.front.pool import WorkerOptions, WorkerPool
from server.worker.front.timing import WorkerTiming


class Composition:
    """The eight servicers, the sessions, and what is started and stopped behind them.

    Args:
        settings: What the operator chose. Nothing runs before `start`.
        clock: The time; the machine's own if None.
    """

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        clock = clock or Clock()
        self._settings = settings
        kinds = {DeviceKind(kind): path for kind, path in settings.worker_python.items()}
        timing = WorkerTiming(
            start=settings.worker_start_seconds,
            cancel_grace=settings.cancel_grace_seconds,
            hang=settings.hang_seconds,
        )
        workers = WorkerOptions(
            spool_dir=settings.data_dir / "spool",
            python=kinds,
            log_level=settings.log_level,
            timing=timing,
            hang={DeviceKind.CPU: settings.cpu_hang_seconds},
            code_dir=settings.data_dir / "compiled",
            cluster=settings.ray_address,
        )
        self._journal = journal = Journal(settings.data_dir / "journal.sqlite")
        # What is named in a lambda is built below, and asked for when the system runs.
        self._pool = pool = WorkerPool(
            workers, profile_of=lambda device_id: self._device.profiles.of(device_id)
        )
        self._inspectors = Inspectors(InspectorOptions(settings.log_level))
        self._main_memory = memory.main_memory(lambda: self._model.cache.used_bytes)
        self._artifact = artifact.build(
            settings,
            shrink=self._shrink,
            clock=clock,
            needed=lambda: self._session.sessions.needed.now(),
        )
        self._session = session.build(
            settings,
            self._artifact.store,
            {
                **{**device.REPORTS, **inference.REPORTS, **memory.REPORTS},
                **{**model.REPORTS, **postprocessing.REPORTS, **safety.REPORTS},
            },
            journal,
            describe=describe_failure,
            admit=lambda work: self._memory.reactions.check_work(work),
            holds=lambda device_id, model_id: _holds(pool, device_id, model_id),
            models=lambda: self._model.contents,
            clock=clock,
        )
        self._picture = picture.build(
            settings, self._inspectors, self._session, self._artifact.store
        )
        self._provenance = provenance.build(
            settings,
            self._session,
            self._artifact.store,
            self._picture,
            version=own_version(),
        )
        self._model = model.build(
            settings,
            pool,
            self._inspectors,
            journal,
            self._session,
            self._main_memory.meter,
            self._artifact.store,
            place=lambda *work: self._device.placer.place(*work),
            machine=self._machine,
            now=clock.wall,
        )
        self._device = device.build(
            settings,
            kinds,
            pool,
            journal,
            self._session,
            self._model.catalogue,
            self._main_memory.meter,
            self._model.runs,
            others=ClusterMachines(settings.ray_address) if settings.ray_address else None,
            now=clock.wall,
        )
        self._memory = memory.build(
            settings,
            self._main_memory,
            pool,
            journal,
            self._session,
            self._device,
            self._artifact.uploads,
            self._model.cached,
            leaving=self._model.leaving,
            find_model=self._model.catalogue.get,
            clock=clock,
        )
        self.sessions = self._session.sessions
        self.artifact = self._artifact.servicer
        self.device = self._device.servicer
        self.memory = self._memory.servicer
        self.model = self._model.servicer
        self._batches = batches.build(
            self._session,
            self._device.inventory,
            batches.Kept(journal.records("batch"), journal.records("batch-item")),
            lambda request: self._inference.template(request),
            describe=describe_failure,
            clock=clock,
        )
        self._workflows = workflows.build(
            self._session,
            journal.records("workflows"),
            verdict=lambda request: self.inference.verdict(request),
            least_role=lambda method: least_role(f"/deviceops.v1.{method}"),
            pictures=workflows.PictureWork(
                self._provenance.verification, self._picture.pictures, self._artifact.store
            ),
            leases=self._memory.leases,
            now=clock.wall,
        )
        self.processing = processing.build(
            self._session, self._device.inventory, self._batches.parts, self._workflows
        )
        self._safety = safety.build(
            self._session,
            self._picture,
            self._device.placer.place,
            pool,
            safety.Kept(journal.records("policy"), journal.records("default-policy")),
            decided=safety_decided,
            now=clock.wall,
        )
        self._postprocessing = postprocessing.build(
            self._session,
            self._model.runs,
            self._device.placer.place,
            self._device.inventory,
            self._model.catalogue,
            self._picture,
            self._artifact.store,
            journal,
            clock,
            self._provenance,
            self._safety,
            self._main_bytes,
            describe=describe_failure,
        )
        self.postprocessing = self._postprocessing.servicer
        self._inference = inference.build(
            pool,
            self._model.runs,
            self._session,
            self._device.inventory,
            self._device.placer.place,
            self._model.catalogue,
            self._artifact.store,
            self._picture,
            self._provenance,
            journal,
            self._machine,
            policies=self._safety.policies,
            steps=self._postprocessing.statistics,
            default_policy=lambda: self._safety.store.default,
            decided=safety_decided,
            describe=describe_failure,
            clock=clock,
            version=own_version(),
        )
        self.inference = self._inference.servicer
        domains = (
            *(self.artifact, self.device, self.inference, self.memory),
            *(self.model, self.postprocessing, self.processing),
        )
        self.system = SystemServicer(
            settings,
            clock.wall(),
            Standing(
                draining=lambda: self._session.sessions.closed,
                used_artifact_bytes=lambda: self._artifact.store.usage().used_bytes,
                used_allocation_bytes=lambda client: self._memory.held_by(client),
            ),
            built=built_methods(domains),
            unbuilt_fields=[f"GenerationSettings.{path}" for path in inference.UNBUILT],
            upload_seconds=EXPIRY_SECONDS,
        )
        self._background = Background()

    async def _shrink(self, artifact_id: str, edge_pixels: int) -> Thumbnail:
        return await self._picture.thumbnails.make(artifact_id, edge_pixels)

    async def _main_bytes(self) -> int | None:
        """Of this machine; None where others, which have as much as they have, work as well."""
        if self._settings.ray_address:
            return None
        return (await self._memory.monitor.extent(Place())).total

    def _machine(self) -> model.Machine:
        return model.Machine(self._device.inventory, self._memory.models, self._memory.monitor)

    async def start(self) -> None:
        """Start everything; workers, discovery and the catalogue get ready by themselves."""
        await self._provenance.provenance.start()
        await asyncio.to_thread(self._journal.open)
        self._workflows.store.recall()
        self._safety.store.recall()
        self._session.sessions.recall()
        await self._session.sessions.recalled()
        self._batches.recall()
        self._inference.experience.recall()
        await self._artifact.start()
        await self._picture.pictures.start()
        await asyncio.to_thread(self._session.paused.sweep)
        await asyncio.to_thread(self._model.new_models.sweep)
        await self._pool.start(self._device.inventory.devices)
        for domain in (
            *(self._artifact, self._session, self._device, self._model, self._memory),
            *(self._inference, self._batches, self._postprocessing),
        ):
            self._background.start(domain.loops)
        self._background.start(heap.LOOPS)

    def drain(self) -> None:
        """End what only a new call could set going again."""
        self._session.draining.begin()

    async def stop(self, grace_seconds: float) -> None:
        """Let sessions end within the grace; then end workers and discovery."""
        await self._session.sessions.stop(grace_seconds)
        await self._background.stop()
        await self._device.inventory.close()
        await self._model.close()
        await self._memory.leases.close()
        self._inspectors.stop()
        await self._pool.stop(0)
        self._main_memory.segments.close()
        await self._inference.statistics.save()
        await self._postprocessing.statistics.save()
        await self._inference.experience.save()
        await asyncio.to_thread(self._journal.close)


def _holds(pool: WorkerPool, device_id: str, model_id: str) -> bool:
    """Whether a device's worker holds a model, as it last told."""
    figures = pool.figures(device_id)
    return figures is not None and any(part.model_id == model_id for part in figures.models)
