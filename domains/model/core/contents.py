"""What the last look through the roots found, all at once or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from domains.device.core.default import DefaultChoice
from domains.model.core.changes import ModelChanges
from domains.model.core.selection import first_usable_checkpoint
from domains.model.ports import ModelScanner
from domains.model.types import Model
from domains.model.views import ModelEvent, ModelEventKind, RefreshReport, Scan

_MOST_PROBLEMS = 64

Models = Mapping[str, Model]


class CatalogueContents:
    """The models of the configured roots, by id.

    A look happens beside what is known, which stays until all that is new takes its place at
    once. Whoever holds a model keeps what they hold.

    Args:
        scanner: Looks through the roots.
        changes: Told what came, changed and went.
        default: Which model requests use that name none; where nobody chose, the first
            usable checkpoint, as `first_usable_checkpoint`.
        sha256_of: A model's hash, empty while it is not known.
    """

    def __init__(
        self,
        scanner: ModelScanner,
        changes: ModelChanges,
        default: DefaultChoice,
        *,
        sha256_of: Callable[[Model], str] = lambda model: "",
    ) -> None:
        self.default = default
        self.changes = changes
        self.scan = Scan(())
        """What the last look came upon, and left out."""
        self._scanner = scanner
        self._sha256_of = sha256_of
        self._scanned: Models = {}
        self._models: dict[str, Model] | None = None
        self._aliases: dict[str, str] = {}
        self._withdrawn: set[str] = set()
        self._running: asyncio.Task[RefreshReport] | None = None
        self._waiting: dict[bool, asyncio.Task[RefreshReport]] = {}
        changes.add_state(self._state)

    @property
    def problems(self) -> tuple[str, ...]:
        """What the last look left out and why, a sentence each: the first of many."""
        return self.scan.problems[:_MOST_PROBLEMS]

    async def known(self) -> Models:
        """Every model; waits for the first look."""
        if self._models is None:
            await self.look()
        return self.now()

    def now(self) -> Models:
        """Every model that is known at this moment."""
        return MappingProxyType(self._models or {})

    def find(self, name: str) -> Model | None:
        """The model of that id or alias, of those that are known at this moment."""
        models = self.now()
        return models.get(name) or models.get(self._aliases.get(name, ""))

    # Looking.

    async def look(self, *, quiet: float = 0.0) -> RefreshReport:
        """Look through the roots; joins a look that is under way.

        Args:
            quiet: Seconds that a file must not have changed for before anything new is said
                of its model: it may be being written.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._look(quiet=quiet))
        # A caller that gives up does not end what others wait for.
        return await asyncio.shield(self._running)

    async def refresh(self, *, full: bool = False) -> RefreshReport:
        """Look through the roots from now on: what lies there by now is found.

        Args:
            full: Read the headers of unchanged files too.
        """
        if full not in self._waiting:
            self._waiting[full] = asyncio.create_task(self._look_afterwards(full=full))
        return await asyncio.shield(self._waiting[full])

    async def again(self, model: Model) -> Model | None:
        """A model as its own files are now, which waits for no look; None where only a look
        can tell. What is known stays as it is until the next one.

        Raises:
            PathOutsideRoot: A part of it has become a link that leads outside its root.
            OSError: The machine cannot read it at the moment.
        """
        fresh = await asyncio.to_thread(self._scanner.again, model)
        if fresh is None:
            return None
        return replace(fresh, sha256=self._sha256_of(fresh), is_default=model.is_default)

    async def close(self) -> None:
        """Stop waiting for a look that is under way. Its thread ends when the disk answers,
        or with the process."""
        for task in (*self._waiting.values(), self._running):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _look_afterwards(self, *, full: bool) -> RefreshReport:
        """What a look under way has passed may be older than the question: begin another."""
        try:
            while self._running is not None and not self._running.done():
                await asyncio.wait([self._running])
        finally:
            # Whoever asks from here on waits for another look.
            del self._waiting[full]
        self._running = asyncio.create_task(self._look(full=full))
        return await asyncio.shield(self._running)

    async def _look(self, *, full: bool = False, quiet: float = 0.0) -> RefreshReport:
        scan = await asyncio.to_thread(self._scanner.scan, full=full, quiet=quiet)
        self.scan = scan
        return self._take({model.model_id: model for model in scan.models})

    # Changing what is known without looking.

    def tell_hash(self, model_id: str) -> None:
        """The hash of a model is known from now on."""
        before = self.now().get(model_id)
        if before is not None and self._models is not None:
            model = self._shown(self._scanned[model_id], None, before.is_default)
            self._models[model_id] = model
            self.changes.record(ModelEvent(ModelEventKind.CHANGED, model))

    def choose_default(self, model_id: str) -> None:
        """Make a model the default from now on.

        Raises:
            DomainError: What `DefaultChoice.choose` raises; it holds all the same.
        """
        try:
            self.default.choose(model_id)
        finally:
            self._take(self._scanned)

    @contextlib.contextmanager
    def withdrawn(self, model_id: str) -> Iterator[None]:
        """While this lasts there is no model of that id, whatever looks find."""
        self._withdrawn.add(model_id)
        self._take(self._scanned)
        try:
            yield
        finally:
            self._withdrawn.discard(model_id)
            self._take(self._scanned)

    def _take(self, scanned: Models) -> RefreshReport:
        """Have these models in place of those before, and tell what that changes."""
        before = self.now()
        there = {i: model for i, model in scanned.items() if i not in self._withdrawn}
        default_id = self._default_among(there)
        after = {
            model_id: self._shown(model, before.get(model_id), model_id == default_id)
            for model_id, model in there.items()
        }
        added = sorted(after.keys() - before.keys())
        removed = sorted(before.keys() - after.keys())
        both = after.keys() & before.keys()
        changed = sorted(i for i in both if after[i] is not before[i] and after[i] != before[i])
        self._scanned, self._models = scanned, after
        self._aliases = {name: i for i, model in after.items() for name in model.aliases}
        kinds = ModelEventKind
        for kind, ids, models in (
            (kinds.REMOVED, removed, before),
            (kinds.ADDED, added, after),
            (kinds.CHANGED, changed, after),
        ):
            for model_id in ids:
                self.changes.record(ModelEvent(kind, models[model_id]))
        return RefreshReport(
            added=tuple(added),
            changed=tuple(changed),
            removed=tuple(removed),
            total_count=len(after),
            problems=self.scan.problems,
        )

    def _shown(self, model: Model, before: Model | None, is_default: bool) -> Model:
        """A model as it was found, with what is known of it besides."""
        known = self._scanned.get(model.model_id)
        if before is None or before.is_default is not is_default or known != model:
            return replace(model, sha256=self._sha256_of(model), is_default=is_default)
        sha256 = before.sha256 or self._sha256_of(model)
        return before if sha256 == before.sha256 else replace(before, sha256=sha256)

    def _default_among(self, models: Models) -> str:
        name = self.default.name
        if not name:
            first = first_usable_checkpoint(models.values())
            return first.model_id if first else ""
        if name in models:
            return name
        return next((i for i, model in models.items() if name in model.aliases), "")

    def _state(self) -> list[ModelEvent]:
        return [ModelEvent(ModelEventKind.ADDED, model) for model in self.now().values()]
