"""Pieces of work that take turns: each stops where it asks for something, and goes on with it.

A strand is a coroutine whose body is plain code. It has a thread of its own for its stack's
sake alone: whoever resumes it waits until it asks or ends, so never more than one of them
runs, and always in the same order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import torch

from domains.device.backends.torch_gauge import backend_of
from domains.device.backends.work_stream import settle_stream

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Result = TypeVar("Result")
Done = TypeVar("Done")


class StrandDropped(BaseException):
    """Nobody will answer: the strand is to end here."""


@dataclass(frozen=True)
class Ended(Generic[Result]):
    """A strand's end: its result, or the error that ended it."""

    result: Result | None = None
    error: BaseException | None = None


@dataclass(frozen=True)
class _Errand(Generic[Done]):
    """Something that a strand has done for it."""

    act: Callable[[], Done]
    outcome: Future[Done] = field(default_factory=Future)

    def run(self) -> None:
        """Do it."""
        try:
            self.outcome.set_result(self.act())
        except BaseException as error:
            self.outcome.set_exception(error)


class Strand(Generic[Question, Answer, Result]):
    """One of them.

    Args:
        work: Is given the strand. Its gradients are off, torch's current device is the
            given one, and its stream that of all work: each belongs to a thread.
        device: Where it computes.
    """

    def __init__(
        self,
        work: Callable[[Strand[Question, Answer, Result]], Result],
        device: torch.device,
    ) -> None:
        self._work, self._device = work, device
        self._questions: SimpleQueue[Question | Ended[Result] | _Errand[Any]] = SimpleQueue()
        self._answers: SimpleQueue[Answer | BaseException | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="strand", daemon=True)
        self._spent, self._since = 0.0, 0.0
        self._running = False
        self.ended: Ended[Result] | None = None
        """How it ended; None as long as it goes on."""

    def resume(self, answer: Answer | BaseException | None = None) -> Question | None:
        """Have it go on until it asks again.

        Args:
            answer: To what it asked; an exception is raised there. None begins it.

        Returns:
            What it asks; None if it has ended.
        """
        if self._thread.ident is None:
            self._thread.start()
        self._since, self._running = time.perf_counter(), True
        self._answers.put(answer)
        while isinstance(found := self._questions.get(), _Errand):
            found.run()
        self._running = False
        self._spent += time.perf_counter() - self._since
        if isinstance(found, Ended):
            self._thread.join()
            self.ended = found
            return None
        return found

    def drop(self) -> None:
        """End it where it stands, unless it has ended."""
        while self.ended is None and self._thread.ident is not None:
            self.resume(StrandDropped())

    def charge(self, seconds: float) -> None:
        """Others worked for it so long."""
        self._spent += seconds

    def now(self) -> float:
        """Seconds that it ran, or others for it."""
        return self._spent + (time.perf_counter() - self._since if self._running else 0.0)

    def ask(self, question: Question) -> Answer:
        """For `work`: stop until there is an answer.

        Raises:
            BaseException: What it was resumed with.
        """
        self._questions.put(question)
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        assert answer is not None, "what is asked is answered"
        return answer

    def elsewhere(self, act: Callable[[], Done]) -> Done:
        """For `work`: have something done by whoever resumes it. That thread works for all of
        them, and has what belongs to a thread and takes time to get: the workers of parallel
        code, and a heap that keeps what such work needs.

        Raises:
            BaseException: As `act` raises it.
        """
        errand = _Errand(act)
        self._questions.put(errand)
        return errand.outcome.result()

    def _run(self) -> None:
        self._answers.get()
        choose = getattr(backend_of(self._device), "device", None)
        try:
            with torch.no_grad(), nullcontext() if choose is None else choose(self._device):
                settle_stream(self._device)
                ended = Ended(self._work(self))
        except BaseException as error:
            ended = Ended(error=error)
        self._questions.put(ended)
