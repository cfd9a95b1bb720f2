"""Work beside the main thread's, on a device that works at two things at once.

What runs there computes with streams of its own and changes nothing that the main thread uses:
where it would have to, or where memory does not suffice for both, the main thread does it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch

from domains.device.backends import faults
from domains.device.backends.torch_gauge import backend_of, single_threaded
from domains.errors import Cancelled, DeadlineExceeded
from domains.session.jobs import WorkPaused

Result = TypeVar("Result")
Lane = Callable[[], AbstractContextManager[None]]
"""Called by the main thread, gives what another thread works in: it sees what was asked
of the device before the call, and all of it is done when that ends."""

one_at_a_time = threading.RLock()
"""Held by whoever goes through a VAE, records steps or makes room: none bears another."""


class NotBeside(Exception):
    """This is for the main thread to do."""


class _Dropped(Exception):
    """Nobody wants it any more."""


def lane_of(device: torch.device) -> Lane | None:
    """Where work beside the main thread's runs; None on devices that do one thing at a time."""
    backend = backend_of(device)
    needed = ("Stream", "stream", "current_stream", "device")
    if single_threaded(device) or not all(hasattr(backend, name) for name in needed):
        return None
    return _Streams(device, backend)


class _Streams:
    """A stream of its own, always the same: the allocator keeps what it had for it alone."""

    def __init__(self, device: torch.device, backend: Any) -> None:
        self._device, self._backend = device, backend
        self._stream: Any = None

    def __call__(self) -> AbstractContextManager[None]:
        if self._stream is None:
            self._stream = self._backend.Stream(self._device)
        before = self._backend.current_stream(self._device).record_event()
        return self._inside(before)

    @contextmanager
    def _inside(self, before: Any) -> Iterator[None]:
        with self._backend.device(self._device), self._backend.stream(self._stream):
            self._stream.wait_event(before)
            try:
                yield
            finally:
                # The main thread may use the memory of what it read from here on.
                self._stream.synchronize()


class Beside(Generic[Result]):
    """Makes one thing at a time in a thread of its own; what comes of it is handed on in order.

    A context manager: at its end what was begun is handed on, unless work is stopped for good.

    Args:
        lane: Where that thread computes.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._thread = ThreadPoolExecutor(1, "beside")
        self._dropped = threading.Event()
        self._last: Future[None] | None = None
        self._in_its_place: Callable[[], None] = _nothing

    def start(
        self,
        make: Callable[[], Result],
        here: Callable[[], Result],
        hand_on: Callable[[Result], None],
    ) -> None:
        """Make something, once what was begun before is handed on.

        Args:
            make: Makes it, in the other thread.
            here: Makes it in this thread, where `make` raises `NotBeside` or memory ran out.
            hand_on: Is given it, in either thread.

        Raises:
            Exception: As `wait`.
        """
        self.wait()
        self._in_its_place = lambda: hand_on(here())
        self._last = self._thread.submit(self._run, self._lane(), make, hand_on)

    def wait(self) -> None:
        """Wait until what was begun is handed on.

        Raises:
            Exception: What making it or handing it on raised.
        """
        last, self._last = self._last, None
        if last is None:
            return
        try:
            last.result()
        except Exception as error:
            if not isinstance(error, NotBeside) and not faults.is_shortage(error):
                raise
            faults.drop_frames(error)
        else:
            return
        del last
        # Out here nothing refers to the failed call's tensors any more.
        self._in_its_place()

    @property
    def at_work(self) -> bool:
        """Whether something is being made."""
        return self._last is not None and not self._last.done()

    def check(self) -> None:
        """For what is made in the other thread: ends it once nobody wants it any more."""
        if self._dropped.is_set():
            raise _Dropped

    def __enter__(self) -> Beside[Result]:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Have what was begun handed on; it is dropped where work was cancelled.

        Raises:
            Exception: As `wait`, unless work ends with an error already.
        """
        with self._thread:
            if error is None or isinstance(error, WorkPaused):
                self.wait()
            elif isinstance(error, Cancelled | DeadlineExceeded) or not isinstance(
                error, Exception
            ):
                self._dropped.set()
                if self._last is not None:
                    wait([self._last])
            else:
                with suppress(Exception):
                    self.wait()

    def _run(
        self,
        inside: AbstractContextManager[None],
        make: Callable[[], Result],
        hand_on: Callable[[Result], None],
    ) -> None:
        with torch.no_grad(), inside:
            made = make()
        self.check()
        hand_on(made)


def _nothing() -> None:
    """Nothing was begun yet."""
