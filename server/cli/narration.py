"""A session's events in sentences, and the few figures a progress bar needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from deviceops.v1 import common_pb2, event_pb2, session_pb2
from server.cli.pictures import seed_of, seed_words
from server.cli.placing import placed
from server.cli.wording import duration, enum_word, printable, seconds_of, size

_PHASES = {
    session_pb2.PHASE_QUEUED: "Waiting for the device",
    session_pb2.PHASE_LOADING_MODEL: "Loading the model",
    session_pb2.PHASE_ENCODING_TEXT: "Reading the prompt",
    session_pb2.PHASE_PREPARING_INPUT: "Preparing input",
    session_pb2.PHASE_DENOISING: "Drawing",
    session_pb2.PHASE_REFINING: "Refining",
    session_pb2.PHASE_SECOND_PASS: "Drawing again, larger",
    session_pb2.PHASE_DECODING: "Decoding",
    session_pb2.PHASE_POSTPROCESSING: "Postprocessing",
    session_pb2.PHASE_CHECKING_SAFETY: "Checking safety",
    session_pb2.PHASE_ENCODING_IMAGE: "Writing the picture",
    session_pb2.PHASE_RUNNING_STEPS: "Running steps",
    session_pb2.PHASE_DRAINING: "Waiting for what runs to end",
    session_pb2.PHASE_STARTING_WORKER: "Starting the worker",
}


# They only start other sessions.
_ON_NO_DEVICE = (session_pb2.SESSION_KIND_WORKFLOW, session_pb2.SESSION_KIND_BATCH)
_LET_BY = {
    event_pb2.YIELD_REASON_HIGHER_PRIORITY: "more urgent work",
    event_pb2.YIELD_REASON_TIME_SLICE: "another client",
}


def phase_words(phase: session_pb2.Phase.ValueType) -> str:
    """A phase for people: `Drawing`."""
    known = _PHASES.get(phase)
    return known or enum_word(session_pb2.Phase, phase, "PHASE_").replace("-", " ").capitalize()


def ends_item(event: event_pb2.SessionEvent) -> bool:
    """Whether an item of a batch or a step of a workflow has ended. Tiles and steps of chains
    come in the same message, under a name of their own."""
    return (
        event.WhichOneof("event") == "item_finished"
        and event.item_finished.item_id == event.item_id
    )


@dataclass
class Progress:
    """What the events so far amount to.

    Args:
        activity: What is going on now, in words.
        images: Pictures expected; at least 1.
        steps: Denoising steps of each picture; 0 while unknown, and the most of any where
            items of a batch differ in them.
        done: Steps done over all pictures and passes.
    """

    activity: str = "Starting"
    images: int = 1
    steps: int = 0
    done: int = 0
    _by_image: dict[int, int] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)
    _drawn_again: set[int] = field(default_factory=set)
    _let_by: str = ""
    _phase_begun: str = ""
    _durable: bool = False
    _of_steps: bool = False
    _first_item: tuple[int, float] | None = None

    @property
    def total(self) -> int:
        """Steps over all pictures; 0 while unknown."""
        return self.images * self.steps

    def take(self, event: event_pb2.SessionEvent) -> None:
        """Bring the figures up to date."""
        match event.WhichOneof("event"):
            case "accepted":
                accepted = event.accepted
                self._durable = accepted.kind == session_pb2.SESSION_KIND_BATCH
                self._of_steps = accepted.kind == session_pb2.SESSION_KIND_WORKFLOW
                self.images = max(1, len(accepted.seeds))
                self.steps = accepted.steps
                self.activity = self._queued(accepted.queue_position)
            case "queue_moved":
                self.activity = self._queued(event.queue_moved.queue_position)
            case "phase_started":
                self._let_by = ""
                self.activity = self._phase_begun = self._phase(event.phase_started)
            case "transfer_progress":
                self.activity = _transfer(event.transfer_progress)
            case "step_finished" if self._of_steps:
                step = event.step_finished
                self.activity = f"{printable(event.item_id)}: step {step.step}/{step.steps}"
            case "step_finished":
                step = event.step_finished
                self.steps = max(self.steps, step.steps)
                # A second pass counts from one again, and it is the last.
                again = step.image_index in self._drawn_again
                before = self.steps - step.steps if again else 0
                self._by_image[step.image_index] = before + step.step
                self._count()
            case "item_finished" if not ends_item(event):
                item = event.item_finished
                whose = printable(event.item_id) if self._of_steps else self._phase_begun
                piece = f"{printable(item.item_id)} {item.done_count} of {item.total_count}"
                self.activity = f"{whose}: {piece}" if whose else piece
            case "item_finished" if self._of_steps:
                item = event.item_finished
                self.images, self.steps, self.done = item.total_count, 1, item.done_count
                self.activity = f"Step {item.done_count} of {item.total_count} finished"
            case "item_finished" if self._durable:
                self._count_items(event)
            case "item_finished":
                # Whatever steps it had or was spared, nothing is left to do of it.
                item = event.item_finished
                self.activity = f"Item {item.done_count} of {item.total_count} finished"
                self._ended |= {image.image_index for image in item.images}
                self._count()
            case "paused":
                self.activity = "Paused"
            case "resumed":
                self.activity = "Resumed"
            case "yielded":
                self._let_by = _LET_BY.get(event.yielded.reason, "")
                self.activity = self._queued(event.yielded.queue_position)
            case "retried":
                self._by_image.clear()
                self._drawn_again.clear()
                self._count()
                self.activity = "Starting over: the worker was lost"

    def _count_items(self, event: event_pb2.SessionEvent) -> None:
        """Of a durable batch only items are told: how many, how fast, how long still."""
        item, at = event.item_finished, event.event_time.ToNanoseconds() / 1e9
        self.images, self.steps, self.done = item.total_count, 1, item.done_count
        self.activity = f"Item {item.done_count} of {item.total_count} finished"
        self._first_item = self._first_item or (item.done_count, at)
        done, since = self._first_item
        if item.done_count > done and at > since:
            rate = (item.done_count - done) / (at - since)
            left = duration((item.total_count - item.done_count) / rate)
            self.activity += f", {rate:.2g} a second, {left} left"

    def _count(self) -> None:
        at_work = sum(n for image, n in self._by_image.items() if image not in self._ended)
        self.done = min(at_work + len(self._ended) * self.steps, self.total)

    def _queued(self, position: int) -> str:
        return _queued(position) + (f": lets {self._let_by} go first" if self._let_by else "")

    def _phase(self, started: event_pb2.PhaseStarted) -> str:
        words = phase_words(started.phase)
        if started.phase == session_pb2.PHASE_SECOND_PASS:
            self._drawn_again.add(started.image_index)
        elif started.phase == session_pb2.PHASE_DENOISING:
            self._drawn_again.discard(started.image_index)
        if self.images > 1 and started.HasField("image_index"):
            return f"{words} {started.image_index + 1}/{self.images}"
        return words


def sentence(event: event_pb2.SessionEvent) -> str:
    """What happened, in a line; empty for what is not worth one."""
    match event.WhichOneof("event"):
        case "accepted":
            accepted = event.accepted
            kind = enum_word(session_pb2.SessionKind, accepted.kind, "SESSION_KIND_")
            again = " (the one this request id started before)" if accepted.existing else ""
            where = f" on {placed(accepted.placement) or 'a device to be chosen'}"
            if accepted.kind in _ON_NO_DEVICE:
                where = ""
            return f"Session {printable(event.session_id)}: {kind}{where}{again}"
        case "queue_moved":
            return _queued(event.queue_moved.queue_position)
        case "phase_started":
            started = event.phase_started
            parts = [printable(event.item_id)] if event.item_id else []
            if started.HasField("image_index"):
                parts.append(f"picture {started.image_index + 1}")
            return phase_words(started.phase) + (f" ({', '.join(parts)})" if parts else "")
        case "transfer_progress":
            return _transfer(event.transfer_progress)
        case "text_encoded":
            return "The prompt was known already" if event.text_encoded.cached else ""
        case "step_finished":
            step = event.step_finished
            whose = _picture(event, step.image_index)
            return f"{whose}: step {step.step}/{step.steps}"
        case "image_finished":
            image = event.image_finished.image
            artifact = printable(image.artifact_id)
            return (
                f"{_picture(event, image.image_index)} finished: {image.width}x{image.height}"
                + seed_words(seed_of(image))
                + (f", artifact {artifact}" if artifact else ", withheld")
            )
        case "item_finished":
            item = event.item_finished
            name, counts = printable(item.item_id), f"{item.done_count}/{item.total_count}"
            if event.item_id and not ends_item(event):
                return f"{printable(event.item_id)}: {name} {counts}"
            line = f"{name}: {counts}"
            failed = item.HasField("failure")
            return line + (f", failed: {printable(item.failure.message)}" if failed else "")
        case "paused":
            return "Paused" + _reason(event.paused.reason_text)
        case "resumed":
            return "Resumed"
        case "yielded":
            yielded = event.yielded
            whom = _LET_BY.get(yielded.reason, "another session")
            steps = f"; {yielded.kept_steps} steps are kept" if yielded.kept_steps else ""
            return f"Lets {whom} go first, {yielded.queue_position} ahead{steps}"
        case "retried":
            cause = printable(event.retried.cause.message)
            return f"Starting over ({event.retried.retry_count}): {cause}"
        case "completed":
            return f"Completed in {duration(seconds_of(event.completed.timings.total))}"
        case "failed":
            return f"Failed: {printable(event.failed.failure.message)}"
        case "cancelled":
            kept = len(event.cancelled.images)
            by = printable(event.cancelled.cancelled_by)
            said = "Cancelled" + (f" by {by}" if by else "")
            said += _reason(event.cancelled.reason_text)
            return f"{said}; finished pictures: {kept}" if kept else said
    return ""


def degradations(completed: event_pb2.SessionCompleted) -> list[str]:
    """What was done otherwise than asked, a sentence each."""
    return [
        printable(entry.detail)
        or enum_word(common_pb2.DegradationKind, entry.kind, "DEGRADATION_KIND_")
        for entry in completed.degradations
    ]


def _picture(event: event_pb2.SessionEvent, image_index: int) -> str:
    """A picture, and the item that it is of: `Picture 3 (pear)`."""
    item = f" ({printable(event.item_id)})" if event.item_id else ""
    return f"Picture {image_index + 1}{item}"


def _reason(text: str) -> str:
    return f": {printable(text)}" if text else ""


def _queued(position: int) -> str:
    return f"Waiting, {position} ahead" if position else "Waiting for the device"


def _transfer(transfer: event_pb2.TransferProgress) -> str:
    done, total = size(transfer.done_bytes), size(transfer.total_bytes)
    return f"Loading {printable(transfer.item)}: {done} of {total}"
