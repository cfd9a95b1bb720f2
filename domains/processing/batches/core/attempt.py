"""One session that does items of a batch: most often one of them, or several that share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from domains import failpoints
from domains.clients import Caller, Role, calling
from domains.errors import Cancelled as WasCancelled
from domains.errors import Failure, Internal, Reason
from domains.processing.batches.core.batch import Batch
from domains.processing.batches.core.endings import Endings
from domains.processing.batches.core.groups import lacked_room
from domains.processing.batches.core.items import work_of
from domains.processing.batches.types import ItemRecord
from domains.session.core.about import Parent
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.types import Cancelled, ImageResult, ItemFinished, SessionState


class Attempt:
    """Begins a session for items, follows it, and has written down what comes of them.

    Args:
        batch: Whose items they are.
        parent: The batch's session.
        records: The items; several are drawn in one session.
        child: The session, where it has been begun before.
    """

    def __init__(
        self,
        batch: Batch,
        parent: Session,
        records: Sequence[ItemRecord],
        child: Session | None = None,
    ) -> None:
        self._batch, self._parent = batch, parent
        self.size, self._alone = len(records), len(records) == 1
        self.left = {each.item_id: each for each in records}
        """Those that have not ended."""
        self.child = child
        self.lacked_room = False
        """Whether memory did not suffice for all of them together."""
        self._seen = 0

    async def begin(self, runner: SessionRunner) -> None:
        """Begin the session, if it has not been.

        Raises:
            DomainError: It cannot begin.
        """
        if self.child is None:
            works = [(work_of(each), each.settled) for each in self.left.values()]
            priority = self._parent.options.priority
            template = self._batch.template
            if self._alone:
                ((work, settled),) = works
                request = template.request(work, settled, priority)
                parent = Parent(self._parent.session_id, work.item_id)
            else:
                # The next server groups anew what has not ended: it takes up no group.
                request = replace(template.together(works, priority), again=None, message=None)
                parent = Parent(self._parent.session_id)
            owner = self._batch.owner
            with calling(Caller(owner, Role.RUN)):  # whose pictures and policies it names
                self.child = await runner.begin(replace(request, owner=owner, parent=parent))
            failpoints.reach("batch.item-begun")
        for each in self.left.values():
            self._batch.children[each.position] = self.child
        self._batch.wake.set()

    async def follow(self, endings: Endings) -> None:
        """Return once all of its items have ended, or wait again."""
        child = self.child
        assert child is not None
        while True:
            changed, final = child.log.change(), child.state.final
            await self._note_parts(child, endings)
            if final:
                break
            if child.state is SessionState.PAUSED:
                self._batch.wake.set()
            await changed.wait()
        end, failure, state = child.log.terminal, child.failure, child.state
        if isinstance(end, Cancelled) and end.reason is Reason.SHUTTING_DOWN:
            self.give_back()  # the next server begins anew with them
            return
        if isinstance(end, Cancelled):
            text = f"The item was cancelled. {end.reason_text}".strip()
            failure = WasCancelled(text, reason=end.reason).failure()
        elif state is SessionState.COMPLETED and not self._alone:
            # It has told the end of each: what is left was lost on the way.
            state, failure = SessionState.FAILED, Internal("Its end was not told.").failure()
        for record in tuple(self.left.values()):
            await self._end(record, endings, state, child.images, failure)

    async def _note_parts(self, child: Session, endings: Endings) -> None:
        """Items that have ended while others go on."""
        while not self._alone and (event := child.log.entry(self._seen + 1)) is not None:
            self._seen = event.sequence
            item, record = event.event, self.left.get(event.item_id)
            if record is None or not isinstance(item, ItemFinished):
                continue
            state = SessionState.COMPLETED if item.failure is None else SessionState.FAILED
            first = min((image.image_index for image in item.images), default=0)
            images = tuple(
                structs.replace(image, image_index=image.image_index - first, item_id="")
                for image in item.images
            )
            await self._end(record, endings, state, images, item.failure)

    def give_back(self) -> None:
        """It could not begin for now: its items wait again."""
        for record in reversed(tuple(self.left.values())):
            self._batch.items.put_back(record.position)
        self.left.clear()

    async def fail(self, endings: Endings, failure: Failure) -> None:
        """It could not begin at all."""
        for record in tuple(self.left.values()):
            await self._end(record, endings, SessionState.FAILED, (), failure)

    async def _end(
        self,
        record: ItemRecord,
        endings: Endings,
        state: SessionState,
        images: tuple[ImageResult, ...],
        failure: Failure | None,
    ) -> None:
        if not self._alone and lacked_room(failure):
            # Beside fewer others it may work: that was no attempt of its own.
            self.lacked_room = True
            self._batch.items.put_back(record.position)
        else:
            await endings.note(record, state, self.child, images, failure)
        del self.left[record.item_id]
        self._batch.children.pop(record.position, None)
