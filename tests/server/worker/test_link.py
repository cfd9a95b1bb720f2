"""The wire: who may use it, and what happens at its ends."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from server.worker.link.connection import (
    MAX_FRAME_BYTES,
    Link,
    LinkClosed,
    LinkListener,
    OversizedFrame,
    connect,
)


@pytest.fixture
def listener() -> Iterator[LinkListener]:
    listener = LinkListener()
    yield listener
    listener.close()


@contextmanager
def linked(listener: LinkListener) -> Iterator[tuple[Link, Link]]:
    """Both ends: the front's and the worker's."""
    with ThreadPoolExecutor(1) as threads:
        accepting = threads.submit(listener.accept)
        worker = connect(listener.address, listener.key)
        front = accepting.result(timeout=10)
    try:
        yield front, worker
    finally:
        front.close()
        worker.close()


def test_frames_arrive_whole_in_both_directions(listener: LinkListener) -> None:
    with linked(listener) as (front, worker):
        for frame in (b"", b"a", bytes(100_000)):
            sending = threading.Thread(target=front.send, args=(frame,))
            sending.start()
            assert worker.receive() == frame
            sending.join()
        worker.send(b"back")
        assert front.receive() == b"back"


def test_the_largest_frame_passes_and_a_larger_one_is_not_sent(listener: LinkListener) -> None:
    with linked(listener) as (front, worker):
        sending = threading.Thread(target=worker.send, args=(bytes(MAX_FRAME_BYTES),))
        sending.start()
        assert len(front.receive()) == MAX_FRAME_BYTES
        sending.join()
        with pytest.raises(ValueError, match="larger than the link takes"):
            worker.send(bytes(MAX_FRAME_BYTES + 1))


def test_a_larger_frame_is_refused_by_its_announcement(listener: LinkListener) -> None:
    with linked(listener) as (front, worker):
        # Four bytes of length, and nothing behind them.
        os.write(worker._connection.fileno(), (2**30).to_bytes(4, "big"))
        with pytest.raises(OversizedFrame):
            front.receive()


def test_the_other_ends_end_is_noticed(listener: LinkListener) -> None:
    with linked(listener) as (front, worker):
        worker.close()
        with pytest.raises(LinkClosed):
            front.receive()
        with pytest.raises(LinkClosed):
            front.send(b"anybody?")
        with pytest.raises(LinkClosed):
            worker.send(b"on a closed end")


def test_strangers_are_turned_away_and_the_worker_is_not(listener: LinkListener) -> None:
    with ThreadPoolExecutor(1) as threads:
        accepting = threads.submit(listener.accept)
        Client(listener.address).close()
        with pytest.raises(LinkClosed):
            connect(listener.address, bytes(32))
        impostor = Client(listener.address)
        impostor.recv_bytes()
        impostor.send_bytes(b"not an answer")
        impostor.close()
        worker = connect(listener.address, listener.key)
        front = accepting.result(timeout=10)
    worker.send(b"me")
    assert front.receive() == b"me"
    worker.close()
    front.close()


def test_waiting_for_a_worker_can_be_given_up(listener: LinkListener) -> None:
    with ThreadPoolExecutor(1) as threads:
        accepting = threads.submit(listener.accept)
        listener.abandon()
        with pytest.raises(LinkClosed):
            accepting.result(timeout=10)
    listener.close()
    listener.abandon()  # nobody listens any more, which is no matter


def test_waiting_that_was_given_up_before_does_not_begin(listener: LinkListener) -> None:
    listener.abandon()
    with pytest.raises(LinkClosed):
        listener.accept()


def test_the_address_is_private_and_goes_away(listener: LinkListener) -> None:
    folder = Path(listener.address).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with linked(listener) as (front, worker):
        listener.close()
        assert not folder.exists()
        worker.send(b"still")
        assert front.receive() == b"still"
    with pytest.raises(LinkClosed):
        connect(listener.address, listener.key)


def test_every_listener_has_a_key_of_its_own(listener: LinkListener) -> None:
    other = LinkListener()
    other.close()
    assert len(listener.key) == 32
    assert listener.key != other.key
