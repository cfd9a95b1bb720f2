"""The catalogue: what the last look through the roots found, all at once or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from domains import checks
from domains.changes import first_revision
from domains.limits import LIMITS
from domains.model.core.naming import check_model_id
from domains.model.core.selection import (
    best_first,
    goes_with,
    matches,
    order_key,
    search,
)
from domains.model.errors import ModelNotFound, ModelUnusable, SearchInvalid
from domains.model.ports import ModelScanner
from domains.model.types import (
    FittingModels,
    Model,
    ModelFilter,
    ModelMatch,
    ModelOrder,
    ModelType,
    Scan,
)
from domains.paging import Page, paginate_ordered

_MOST_PROBLEMS = 64
_MOST_FITTING = 256


@dataclass(frozen=True)
class Refresh:
    """What a refresh changed: ids of models, and what was left out and why."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    total_count: int
    problems: tuple[str, ...]


class ModelCatalogue:
    """Knows the models of the configured roots.

    The first question waits for the first look; later looks happen beside the old
    catalogue, which answers until the new one takes its place at once.

    Args:
        scanner: Looks through the roots.
        default_model: Id of the model used where a request names none; empty means the
            first usable checkpoint by name.
        clock: The wall clock, timezone-aware.
    """

    def __init__(
        self,
        scanner: ModelScanner,
        *,
        default_model: str = "",
        clock: Callable[[], datetime],
    ) -> None:
        self._scanner = scanner
        self._configured = default_model
        self._clock = clock
        self._models: MappingProxyType[str, Model] | None = None
        self._problems: tuple[str, ...] = ()
        self._revision = first_revision(clock())
        self._last_uses: dict[str, datetime] = {}
        self._running: asyncio.Task[Refresh] | None = None

    @property
    def revision(self) -> int:
        """Number of the newest change: of each model that came, went or became another.

        Numbers begin with the microseconds of the clock, so that those of an earlier life of
        the server are not taken for this one's.
        """
        return self._revision

    @property
    def problems(self) -> tuple[str, ...]:
        """What the last look left out and why, a sentence each: the first of many."""
        return self._problems

    async def refresh(self) -> Refresh:
        """Look through the roots; joins a look that is under way."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._refresh())
        # A caller that gives up does not end what others wait for.
        return await asyncio.shield(self._running)

    async def close(self) -> None:
        """Stop waiting for a look that is under way. Its thread ends when the disk answers,
        or with the process."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._running

    async def list(
        self,
        wanted: ModelFilter,
        *,
        order: ModelOrder = ModelOrder.NAME,
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[Model]:
        """One page of the models that pass `wanted`.

        Raises:
            InvalidArgument: FIELD_OUT_OF_RANGE, PAGE_TOKEN_INVALID, TOO_MANY_ELEMENTS or
                TEXT_TOO_LONG.
            DomainError: What `get` raises, of the checkpoint that they shall go with.
        """
        limit = LIMITS["ListModelsRequest.tags"]
        SearchInvalid.check(*checks.lines("tags", wanted.tags, limit))
        models = await self._known()
        chosen = [model for model in models.values() if matches(model, wanted)]
        if wanted.goes_with:
            checkpoint = await self.get(wanted.goes_with, field="compatible_with_model_id")
            chosen = [model for model in chosen if goes_with(model, checkpoint)]
        return paginate_ordered(
            chosen,
            order_key(order, self._last_uses),
            page_size=page_size,
            page_token=page_token,
            scope=f"models {wanted} {order}",
        )

    async def search(
        self,
        query: str,
        wanted: ModelFilter,
        *,
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[ModelMatch]:
        """One page of the models that pass `wanted` and match every word, best first.

        Raises:
            InvalidArgument: REQUIRED_FIELD_MISSING, TEXT_TOO_LONG, TEXT_INVALID,
                FIELD_OUT_OF_RANGE or PAGE_TOKEN_INVALID.
        """
        SearchInvalid.check(
            checks.required("query", query.strip()),
            checks.line("query", query, LIMITS["SearchModelsRequest.query"]),
        )
        models = await self._known()
        found = search((m for m in models.values() if matches(m, wanted)), query)
        return paginate_ordered(
            found,
            best_first,
            page_size=page_size,
            page_token=page_token,
            scope=f"search {wanted} {query}",
        )

    async def get(
        self, model_id: str, *, type: ModelType | None = None, field: str = "model_id"
    ) -> Model:
        """One model, usable or not; empty means the default one.

        Raises:
            ModelNotFound: There is none, or it is of another type than `type`.
            ModelNameInvalid: No model can have this id.
            RemoteSourceForbidden: It is a URL or a repository's name.
        """
        if model_id:
            check_model_id(model_id, field=field)
        models = await self._known()
        model = models.get(model_id) if model_id else self._default(models.values())
        if model is None and model_id:
            raise ModelNotFound(model_id, "ListModels lists the models of this server.")
        if model is None:
            raise ModelNotFound(self._configured, self._why_no_default())
        if type is not None and model.type is not type:
            raise ModelNotFound.of_type(model, type)
        return model

    async def resolve(self, model_id: str, *, type: ModelType = ModelType.CHECKPOINT) -> Model:
        """The model to run, of the type it is needed as; empty means the default one.

        Raises:
            ModelUnusable: It is there and cannot be used, with its problem's reason.
            DomainError: What `get` raises.
        """
        model = await self.get(model_id, type=type)
        if model.problem is not None:
            raise ModelUnusable(model.model_id, model.problem)
        return model

    async def fitting(self, model: Model) -> FittingModels:
        """Usable models that go with `model`, by architecture."""
        fitting = [m for m in (await self._known()).values() if goes_with(m, model)]
        newest_first = order_key(ModelOrder.MODIFY_TIME, {})

        def ids(type: ModelType) -> tuple[str, ...]:
            found = sorted((m for m in fitting if m.type is type), key=newest_first)
            return tuple(sorted(m.model_id for m in found[:_MOST_FITTING]))

        return FittingModels(
            vaes=ids(ModelType.VAE),
            loras=ids(ModelType.LORA),
            control_nets=ids(ModelType.CONTROL_NET),
            refiners=ids(ModelType.REFINER),
        )

    def record_use(self, model_id: str) -> None:
        """Remember that work used a model now, for the order by last use."""
        self._last_uses[model_id] = self._clock()

    async def _known(self) -> MappingProxyType[str, Model]:
        if self._models is None:
            await self.refresh()
        assert self._models is not None
        return self._models

    async def _refresh(self) -> Refresh:
        scan = await asyncio.to_thread(self._scanner.scan)
        before: Mapping[str, Model] = self._models or {}
        after = self._marked(scan)
        self._models = MappingProxyType(after)
        self._problems = scan.problems[:_MOST_PROBLEMS]
        self._last_uses = {k: v for k, v in self._last_uses.items() if k in after}
        found = Refresh(
            added=tuple(sorted(after.keys() - before.keys())),
            changed=tuple(
                sorted(i for i in after.keys() & before.keys() if after[i] != before[i])
            ),
            removed=tuple(sorted(before.keys() - after.keys())),
            total_count=len(after),
            problems=scan.problems,
        )
        self._revision += len(found.added) + len(found.changed) + len(found.removed)
        return found

    def _marked(self, scan: Scan) -> dict[str, Model]:
        models = {model.model_id: model for model in scan.models}
        default = self._default(models.values())
        if default is not None:
            models[default.model_id] = replace(default, is_default=True)
        return models

    def _default(self, models: Iterable[Model]) -> Model | None:
        if self._configured:
            return next((m for m in models if m.model_id == self._configured), None)
        wanted = ModelFilter(type=ModelType.CHECKPOINT, usable_only=True)
        usable = (model for model in models if matches(model, wanted))
        return min(usable, key=order_key(ModelOrder.NAME, {}), default=None)

    def _why_no_default(self) -> str:
        if self._configured:
            return "it is configured as the default model and is in no model folder."
        return "No model was named, and the model folders hold no usable checkpoint."
