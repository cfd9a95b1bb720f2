"""Batches of generations: many different pictures, drawn item by item as one session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, islice
from typing import NoReturn, TypeVar

from domains.device.ports import Place
from domains.errors import (
    Cancelled,
    DomainError,
    Failure,
    FeatureNotBuilt,
    FieldViolation,
    Reason,
)
from domains.inference.core.drawing import Drawing, Part
from domains.inference.core.item_fields import each_prepared, items_fields
from domains.inference.core.preparing import GenerationPreparer, PreparedGeneration
from domains.inference.core.prompt_syntax import drawn_as_words
from domains.inference.core.resolution import effort_of, steps_of_all
from domains.inference.core.same_pictures import SamePictures
from domains.inference.core.statistics import StatisticsKeeper
from domains.inference.core.turns import Turns
from domains.inference.core.validation import check_request
from domains.inference.errors import InvalidGeneration
from domains.inference.jobs import MOST_IMAGES
from domains.inference.ports import PicturePreparer
from domains.inference.types import GenerationFacts
from domains.inference.types.batches import (
    BatchComputation,
    GenerationBatchReport,
    GenerationBatchRequest,
    batch_as_decided,
    image_count,
)
from domains.session.core.items import SessionItem
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.speeds import Effort, Speeds
from domains.session.errors import SessionTimedOut
from domains.session.jobs import WorkPaused
from domains.session.ports import FaultReporter, PausedFiles
from domains.session.types import ItemFinished, Outcome, Phase, SessionKind, SessionState
from domains.values import Degradation, DegradationKind

_T = TypeVar("_T", Phase, str)
_MOST_DEGRADATIONS = 32
# With these, none of the items that are left could be drawn.
_NO_DEVICE = (Reason.DEVICE_UNAVAILABLE, Reason.DEVICE_LOST, Reason.DEVICE_QUARANTINED)


class GenerationBatches:
    """Accepts batches and draws them when their device's turn comes.

    Args:
        sessions: Where they wait.
        place: Chooses the device.
        preparer: Checks and resolves items.
        drawing: Has them drawn.
        pictures: Prepares those that items name.
        paused: Where unfinished pictures of paused ones lie.
        statistics: Learn from each that ends.
        describe: What a client sees of an error.
    """

    def __init__(
        self,
        sessions: Sessions,
        place: Place,
        preparer: GenerationPreparer,
        drawing: Drawing,
        pictures: PicturePreparer,
        paused: PausedFiles,
        statistics: StatisticsKeeper,
        *,
        describe: FaultReporter,
    ) -> None:
        self._sessions = sessions
        self._place = place
        self._preparer = preparer
        self._drawing = drawing
        self._pictures = pictures
        self._paused = paused
        self._statistics = statistics
        self._describe = describe

    def generate(self, request: GenerationBatchRequest) -> SessionRequest:
        """The batch as a session. Preparing it raises as preparing any of its items does."""
        return SessionRequest(
            request.options,
            request.digest,
            partial(self._prepare, request),
            again=lambda decided: self._prepare(batch_as_decided(request, decided)),
        )

    async def _prepare(self, request: GenerationBatchRequest) -> SessionPlan:
        if not request.items:
            _refuse_without_items(request)
        _check_size(request)
        items = await self._items(request)
        every = [item.prepared for item in items]
        first, settings = every[0], [one.job.settings for one in every]
        placed = await self._place(request.placement, _effort(every), request.options.priority)
        run = _BatchRun(
            items,
            self._drawing,
            self._paused,
            self._sessions.speeds,
            sharing=request.computation is BatchComputation.THROUGHPUT,
            describe=self._describe,
        )
        device_id = placed.decision.device_id
        steps = [steps_of_all(one) for one in settings]
        models = dict.fromkeys(model.model_id for one in every for model in one.models)

        def ended(session: Session) -> None:
            run.end()
            self._statistics.note(session)

        return SessionPlan(
            kind=SessionKind.GENERATION_BATCH,
            device_id=device_id,
            placed=placed,
            model_id=first.model.model_id,
            companion_ids=tuple(
                model_id for model_id in models if model_id != first.model.model_id
            ),
            policies=_each_once(key for one in every for key in one.policies),
            expected_phases=_each_once(
                phase for one in every for phase in self._drawing.phases(one, device_id)
            ),
            seeds=tuple(seed for one in settings for seed in one.seeds),
            steps=steps[0] if len(set(steps)) == 1 else 0,
            total_steps=sum(
                each * len(one.seeds) for each, one in zip(steps, settings, strict=True)
            ),
            work=run.draw,
            degradations=_few(drawn_as_words(one) for one in settings),
            stop=self._drawing.stop,
            pause=self._drawing.pause,
            ended=ended,
        )

    async def _items(self, request: GenerationBatchRequest) -> tuple[_Item, ...]:
        every = await each_prepared(
            self._preparer, request.items, SamePictures(self._pictures), lambda one: one
        )
        firsts = accumulate((len(one.job.settings.seeds) for one in every), initial=0)
        return tuple(
            _Item(item.item_id, prepared, first, item.origin)
            for item, prepared, first in zip(request.items, every, firsts, strict=False)
        )


@dataclass(frozen=True)
class _Item:
    item_id: str
    prepared: PreparedGeneration
    first_image: int
    origin: Callable[[str], str]
    """Where in the batch's request stands what the item's own has at a path."""


class _BatchRun:
    """The items of one batch, through all turns of its session.

    Args:
        items: All of them.
        drawing: Has them drawn.
        paused: Where unfinished pictures of paused items lie.
        speeds: Learn from each item that works.
        sharing: Whether they may share passes.
        describe: What a client sees of an error.
    """

    def __init__(
        self,
        items: Sequence[_Item],
        drawing: Drawing,
        paused: PausedFiles,
        speeds: Speeds,
        *,
        sharing: bool,
        describe: FaultReporter,
    ) -> None:
        self._left, self._count = list(items), len(items)
        self._drawing = drawing
        self._paused = paused
        self._speeds = speeds
        self._sharing = sharing
        self._all_at_once = sharing and len(items) > 1
        self._describe = describe
        self._turns: dict[str, Turns] = {}  # of items that were begun and have not ended
        self._failed = 0
        self._seconds: Counter[Phase] = Counter()
        self._degradations: list[tuple[Degradation, ...]] = []

    async def draw(self, session: Session) -> Outcome:
        """Draw every item that has not ended yet.

        Raises:
            WorkPaused: It stopped between two steps, and goes on when this is called again.
            Cancelled: The session is being cancelled.
            SessionTimedOut: Its time is over.
            Unavailable: There is no device any more.
        """
        if self._all_at_once:
            failure = await self._try(session, self._left)
            if failure is not None and self._left:
                self._all_at_once = False  # one of them may be what ended all
                detail = f"Its items were drawn one by one after {failure.reason}."
                less = Degradation(DegradationKind.SHARED_LESS, detail)
                self._degradations.append((less,))
        while self._left:
            if session.state is SessionState.PAUSING or session.yielding is not None:
                raise WorkPaused  # the last item ended before it could
            item = self._left[0]
            part = self._part(session, item)
            if len(part.item.images) == item.prepared.job.image_count:
                self._finish(item, part, Outcome())  # what drew them went with all the others
            elif (failure := await self._try(session, [item])) and item in self._left:
                self._finish(item, part, failure)
        return Outcome(
            degradations=_few(self._degradations),
            timings=dict(self._seconds),
            report=GenerationBatchReport(self._count - self._failed, self._failed),
            teaches=False,
        )

    def end(self) -> None:
        """There will be no more turns: nothing is kept."""
        for turns in self._turns.values():
            turns.end()
        self._turns.clear()

    async def _try(self, session: Session, items: Sequence[_Item]) -> Failure | None:
        """Draw items in one go; what all of them failed with is returned."""
        items = tuple(items)  # those that are left change meanwhile
        parts = [self._part(session, item) for item in items]

        def ended(position: int, end: Outcome | Failure) -> None:
            self._finish(items[position], parts[position], end)

        try:
            if self._sharing:
                await self._drawing.draw_together(parts, ended)
            else:
                for position, part in enumerate(parts):
                    ended(position, await self._drawing.draw(part))
        except (WorkPaused, Cancelled, SessionTimedOut):
            raise
        except Exception as error:
            if isinstance(error, DomainError) and error.reason in _NO_DEVICE:
                raise
            return self._describe(error)
        return None

    def _part(self, session: Session, item: _Item) -> Part:
        if item.item_id not in self._turns:
            self._turns[item.item_id] = Turns(self._paused)
        turns = self._turns[item.item_id]
        return Part(item.prepared, turns, SessionItem(session, item.item_id, item.first_image))

    def _learn(self, device_id: str, part: Part, outcome: Outcome) -> None:
        """Note how fast the device is, where the item had it for itself."""
        facts = outcome.report
        alone = isinstance(facts, GenerationFacts) and facts.computed.most_together <= 1
        if alone and outcome.teaches:
            effort = effort_of(part.prepared.job.settings)
            self._speeds.learn(device_id, effort, outcome.timings)

    def _finish(self, ended: _Item, part: Part, end: Outcome | Failure) -> None:
        item, session = part.item, part.item.session
        self._turns.pop(item.item_id).end()
        self._left = [each for each in self._left if each.item_id != item.item_id]
        failure, outcome = (
            (end.renamed(ended.origin), Outcome()) if isinstance(end, Failure) else (None, end)
        )
        if failure is None:
            self._learn(session.device_id, part, outcome)
            self._seconds.update(outcome.timings)
            self._degradations.append(outcome.degradations)
        self._failed += failure is not None
        session.finish_item(
            ItemFinished(
                item.item_id,
                self._count - len(self._left),
                self._failed,
                self._count,
                item.images,
                failure,
                outcome.report,
                outcome.degradations,
            )
        )


def _refuse_without_items(request: GenerationBatchRequest) -> NoReturn:
    """Say what is wrong with a batch of nothing; its template is looked at all the same."""
    rule = "Must have at least one element, unless there is a matrix."
    missing = FieldViolation(request.field, Reason.FIELD_OUT_OF_RANGE, rule)
    template = request.template.request
    with items_fields(request.template):
        if template.unbuilt:
            raise FeatureNotBuilt(template.unbuilt)
        raise InvalidGeneration.of(*check_request(template), missing)


def _check_size(request: GenerationBatchRequest) -> None:
    count = sum(image_count(item.request.settings) for item in request.items)
    if count > MOST_IMAGES:
        rule = f"Draws {count} pictures together; {MOST_IMAGES} at most."
        violation = FieldViolation(request.field, Reason.TOO_MANY_ELEMENTS, rule)
        raise InvalidGeneration.of(violation)


def _effort(items: Iterable[PreparedGeneration]) -> Effort:
    """The work of all, as if each were for the first one's model and of its size."""
    efforts = [effort_of(one.job.settings) for one in items]
    amounts: Counter[Phase] = Counter()
    for each in efforts:
        amounts.update(each.amounts)
    return Effort(efforts[0].model_id, efforts[0].manner, efforts[0].pixels, dict(amounts))


def _each_once(several: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(several))


def _few(degradations: Iterable[tuple[Degradation, ...]]) -> tuple[Degradation, ...]:
    """Each once, the first of them."""
    each: Iterator[Degradation] = iter(dict.fromkeys(chain.from_iterable(degradations)))
    return tuple(islice(each, _MOST_DEGRADATIONS))
