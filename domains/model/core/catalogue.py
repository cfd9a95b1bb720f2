"""The catalogue: what is asked of the models that the last look found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from datetime import datetime

from domains import checks
from domains.changes import Told
from domains.limits import LIMITS
from domains.model.core.contents import CatalogueContents
from domains.model.core.naming import check_model_id
from domains.model.core.selection import (
    best_first,
    goes_with,
    matches,
    order_key,
    search,
)
from domains.model.errors import (
    MaskNeeded,
    ModelNotFound,
    ModelUnusable,
    NameTaken,
    NotLoadedAlone,
    PartsBorrowed,
    SearchInvalid,
    VaeNeeded,
)
from domains.model.types import Model, ModelType, loads
from domains.model.views import (
    FittingModels,
    ModelEvent,
    ModelEventKind,
    ModelFilter,
    ModelMatch,
    ModelOrder,
    RefreshReport,
)
from domains.paging import Page, paginate_ordered

_MOST_FITTING = 256
_ARRIVAL_SECONDS = 600.0
_BETWEEN_LOOKS_SECONDS = 0.5


class ModelCatalogue:
    """Knows the models of the configured roots.

    The first question waits for the first look; later looks happen beside the old
    catalogue, which answers until the new one takes its place at once.

    Args:
        contents: The models.
        clock: The wall clock, timezone-aware.
    """

    def __init__(self, contents: CatalogueContents, *, clock: Callable[[], datetime]) -> None:
        self._contents = contents
        self._clock = clock
        self._last_uses: dict[str, datetime] = {}
        contents.changes.subscribe(self._changed)

    @property
    def revision(self) -> int:
        """Number of the newest change of any model, which this catalogue shows."""
        return self._contents.changes.revision

    @property
    def problems(self) -> tuple[str, ...]:
        """What the last look left out and why, a sentence each: the first of many."""
        return self._contents.problems

    async def refresh(self, *, full: bool = False) -> RefreshReport:
        """Look through the roots from now on; see `CatalogueContents.refresh`."""
        return await self._contents.refresh(full=full)

    async def arrived(self, model_id: str) -> Model:
        """A model that was put into a root a moment ago. Where that is being looked through
        already, the look may have passed its place: wait for another, some minutes at most.

        Raises:
            DomainError: What `get` raises.
        """
        loop = asyncio.get_running_loop()
        latest = loop.time() + _ARRIVAL_SECONDS
        await self.refresh()
        while self._contents.find(model_id) is None and self._contents.scan.late:
            if loop.time() > latest:
                break
            await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
            await self.refresh()
        return await self.get(model_id)

    async def again(self, model_id: str) -> Model:
        """A model as its own files are now, whatever the last look found: for what shall not
        wait until every root was looked through.

        Raises:
            DomainError: What `get` raises; PATH_OUTSIDE_ROOT where a part of it has become a
                link that leads outside its root.
        """
        known = await self.get(model_id)
        with suppress(OSError):  # it stays as it was known
            if (fresh := await self._contents.again(known)) is not None:
                return fresh
            await self.refresh()
        return await self.get(model_id)

    async def watch(
        self, model_id: str = "", *, from_revision: int = 0
    ) -> AsyncGenerator[Told[ModelEvent]]:
        """What happens to models; see `ModelChanges.watch`.

        Args:
            model_id: The one to watch; empty means all.
            from_revision: Tell the changes after this one instead of how things are.

        Raises:
            ChangesExpired: The changes after `from_revision` are not kept.
            DomainError: What `get` raises.
        """
        if model_id:
            model_id = (await self.get(model_id)).model_id
        else:
            await self._contents.known()
        told = self._contents.changes.watch(model_id, from_revision=from_revision)
        async with aclosing(told):
            async for one in told:
                yield one

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
        models = await self._contents.known()
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
                TOO_MANY_ELEMENTS, FIELD_OUT_OF_RANGE or PAGE_TOKEN_INVALID.
        """
        SearchInvalid.check(
            checks.required("query", query.strip()),
            checks.line("query", query, LIMITS["SearchModelsRequest.query"]),
            *checks.lines("tags", wanted.tags, LIMITS["SearchModelsRequest.tags"]),
        )
        models = await self._contents.known()
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
        await self._contents.known()
        model = self._contents.find(model_id) if model_id else self._default()
        if model is None:
            raise ModelNotFound(model_id, "ListModels lists the models of this server.")
        if type is not None and model.type is not type:
            raise ModelNotFound.of_type(model, type)
        return model

    async def check_free(self, model_id: str) -> None:
        """Refuse an id that is taken; ids that differ in case only are one file on Windows.

        Raises:
            NameTaken: There is a model of that id or alias.
        """
        known = await self._contents.known()
        taken = any(one.lower() == model_id.lower() for one in known)
        if taken or self._contents.find(model_id) is not None:
            raise NameTaken(model_id)

    async def resolve(
        self,
        model_id: str,
        *,
        type: ModelType = ModelType.CHECKPOINT,
        or_type: ModelType | None = None,
        masks: bool = False,
        vae: bool = False,
        field: str = "model_id",
    ) -> Model:
        """The model to run, of the type it is needed as; empty means the default one.

        Args:
            model_id: Its id.
            type: What it is needed as.
            or_type: Another type that does as well.
            masks: Whether one will do that takes masks.
            vae: Whether one will do that has no VAE.
            field: Where the request has the id.

        Raises:
            ModelUnusable: It is there and cannot be used, with its problem's reason.
            MaskNeeded: It takes a mask, which nothing gives it.
            VaeNeeded: It has no VAE, and nothing lends it one.
            DomainError: What `get` raises.
        """
        model = await self.get(model_id, field=field)
        # What is wrong with a model of unknown type is the reason why its type is unknown.
        wanted = {type, or_type} - {None}
        if model.problem is not None and model.type in (*wanted, None):
            raise ModelUnusable(model.model_id, model.problem)
        if model.type not in wanted:
            raise ModelNotFound.of_type(model, type)
        if model.inpainting and not masks:
            raise MaskNeeded(model.model_id)
        if model.lacks_vae and not vae:
            raise VaeNeeded(model.model_id)
        return model

    async def of_type(self, type: ModelType) -> tuple[Model, ...]:
        """Every usable model of that type, in no order."""
        wanted = ModelFilter(type=type, usable_only=True)
        known = (await self._contents.known()).values()
        return tuple(model for model in known if matches(model, wanted))

    async def loadable(self, model_id: str) -> Model:
        """The model to put on a device: a whole one, or a network that work with one uses;
        empty means the default checkpoint.

        Raises:
            ModelUnusable: It is there and cannot be used, with its problem's reason.
            NotLoadedAlone: It is something else.
            PartsBorrowed: It is a refiner that takes networks of a checkpoint.
            DomainError: What `get` raises.
        """
        model = await self.get(model_id)
        if model.problem is not None and (model.type is None or loads(model.type)):
            raise ModelUnusable(model.model_id, model.problem)
        if not loads(model.type):
            raise NotLoadedAlone(model)
        if model.borrows:
            raise PartsBorrowed(model.model_id)
        return model

    async def fitting(self, model: Model) -> FittingModels:
        """Usable models that go with `model`, by architecture."""
        fitting = [m for m in (await self._contents.known()).values() if goes_with(m, model)]
        newest_first = order_key(ModelOrder.MODIFY_TIME, {})

        def ids(type: ModelType) -> tuple[str, ...]:
            found = sorted((m for m in fitting if m.type is type), key=newest_first)
            return tuple(sorted(m.model_id for m in found[:_MOST_FITTING]))

        return FittingModels(
            vaes=ids(ModelType.VAE),
            loras=ids(ModelType.LORA),
            control_nets=ids(ModelType.CONTROL_NET),
            image_prompt_adapters=ids(ModelType.IMAGE_PROMPT_ADAPTER),
            refiners=ids(ModelType.REFINER),
        )

    async def companions_of(self, model: Model, type: ModelType) -> tuple[Model, ...]:
        """Usable models of a type that go with a checkpoint, by architecture."""
        known = (await self._contents.known()).values()
        return tuple(m for m in known if m.type is type and goes_with(m, model))

    def record_use(self, model_id: str) -> None:
        """Remember that work used a model now, for the order by last use."""
        self._last_uses[model_id] = self._clock()

    def sha256_of(self, model: Model) -> str:
        """A model's hash as far as it is known by now; empty where it is not, or where the
        model is no longer as it was."""
        now = self._contents.now().get(model.model_id)
        return now.sha256 if now is not None and now.weights == model.weights else ""

    def _changed(self, event: ModelEvent) -> None:
        if event.kind is ModelEventKind.REMOVED:
            self._last_uses.pop(event.model.model_id, None)

    def _default(self) -> Model:
        model = next((m for m in self._contents.now().values() if m.is_default), None)
        if model is not None:
            return model
        if chosen := self._contents.default.name:
            raise ModelNotFound(
                chosen,
                "it is configured or chosen as the default model and is in no model folder.",
            )
        raise ModelNotFound(
            "", "No model was named, and the model folders hold no usable checkpoint."
        )
