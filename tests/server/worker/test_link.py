"""The wire: who may use it, and what happens at its ends."""

from __future__ import annotations

import hmac
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import pytest

from server.worker.link.connection import (
    MAX_FRAME_BYTES,
    Link,
    LinkClosed,
    LinkListener,
    LinkOffer,
    LinkPair,
    OversizedFrame,
    connect,
    offer_link,
)
from tests.scarcity import few_descriptors


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[LinkListener]:
    listener = LinkListener(os.fspath(tmp_path / "link"))
    yield listener
    listener.close()


@pytest.fixture
def pair() -> Iterator[LinkPair]:
    pair = LinkPair()
    yield pair
    pair.close()


@pytest.fixture(params=["listener", "pair"])
def offer(request: pytest.FixtureRequest) -> LinkOffer:
    found: LinkOffer = request.getfixturevalue(request.param)
    return found


def inherited(offer: LinkOffer) -> str:
    """The address as the worker's process has it: with a descriptor of its own."""
    if not offer.descriptors:
        return offer.address
    address = f"descriptor:{os.dup(offer.descriptors[0])}"
    offer.hand_over()
    return address


@contextmanager
def linked(offer: LinkOffer) -> Iterator[tuple[Link, Link]]:
    """Both ends: the front's and the worker's."""
    with ThreadPoolExecutor(1) as threads:
        accepting = threads.submit(offer.accept)
        worker = connect(inherited(offer), offer.key)
        front = accepting.result(timeout=60)
    try:
        yield front, worker
    finally:
        front.close()
        worker.close()


def test_frames_arrive_whole_in_both_directions(offer: LinkOffer) -> None:
    with linked(offer) as (front, worker):
        for frame in (b"", b"a", bytes(100_000)):
            sending = threading.Thread(target=front.send, args=(frame,))
            sending.start()
            assert worker.receive() == frame
            sending.join()
        worker.send(b"back")
        assert front.receive() == b"back"


def test_a_system_without_md5_has_links(
    offer: LinkOffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one in FIPS mode."""
    new = hmac.new

    def refuse(key: bytes, message: bytes | None = None, digestmod: Any = "") -> hmac.HMAC:
        if digestmod == "md5":
            raise ValueError("[digital envelope routines] unsupported")
        return new(key, message, digestmod)

    monkeypatch.setattr(hmac, "new", refuse)
    with linked(offer) as (front, worker):
        worker.send(b"hello")
        assert front.receive() == b"hello"


def test_the_largest_frame_passes_and_a_larger_one_is_not_sent(offer: LinkOffer) -> None:
    with linked(offer) as (front, worker):
        sending = threading.Thread(target=worker.send, args=(bytes(MAX_FRAME_BYTES),))
        sending.start()
        assert len(front.receive()) == MAX_FRAME_BYTES
        sending.join()
        with pytest.raises(ValueError, match="larger than the link takes"):
            worker.send(bytes(MAX_FRAME_BYTES + 1))


def test_a_larger_frame_is_refused_by_its_announcement(offer: LinkOffer) -> None:
    with linked(offer) as (front, worker):
        # Four bytes of length, and nothing behind them.
        os.write(worker._connection.fileno(), (2**30).to_bytes(4, "big"))
        with pytest.raises(OversizedFrame):
            front.receive()


def test_the_other_ends_end_is_noticed(offer: LinkOffer) -> None:
    with linked(offer) as (front, worker):
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
        front = accepting.result(timeout=60)
    worker.send(b"me")
    assert front.receive() == b"me"
    worker.close()
    front.close()


def test_waiting_for_a_worker_can_be_given_up(listener: LinkListener) -> None:
    with ThreadPoolExecutor(1) as threads:
        accepting = threads.submit(listener.accept)
        listener.abandon()
        with pytest.raises(LinkClosed):
            accepting.result(timeout=60)
    listener.close()
    listener.abandon()  # nobody listens any more, which is no matter


def test_waiting_that_was_given_up_before_does_not_begin(listener: LinkListener) -> None:
    listener.abandon()
    with pytest.raises(LinkClosed):
        listener.accept()


def test_a_pair_has_no_name_and_needs_no_folder(
    pair: LinkPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    other = offer_link()
    assert isinstance(other, LinkPair)
    other.close()
    with linked(pair) as (front, worker):
        pair.close()
        worker.send(b"still")
        assert front.receive() == b"still"


def test_a_pairs_end_is_not_for_what_the_worker_starts(pair: LinkPair) -> None:
    with linked(pair) as (_, worker):
        assert not os.get_inheritable(worker._connection.fileno())


def test_a_pair_turns_away_who_does_not_know_the_key(pair: LinkPair) -> None:
    with ThreadPoolExecutor(1) as threads:
        accepting = threads.submit(pair.accept)
        with pytest.raises(LinkClosed):
            connect(inherited(pair), bytes(32))
        with pytest.raises(LinkClosed):
            accepting.result(timeout=60)


def test_a_worker_that_never_came_ends_the_wait(pair: LinkPair) -> None:
    with ThreadPoolExecutor(1) as threads:
        accepting = threads.submit(pair.accept)
        pair.hand_over()
        with pytest.raises(LinkClosed):
            accepting.result(timeout=60)


def test_a_link_ends_although_somebody_else_holds_its_other_end(pair: LinkPair) -> None:
    held = os.dup(pair.descriptors[0])
    with linked(pair) as (front, worker), ThreadPoolExecutor(1) as threads:
        worker.send(b"last words")
        worker.close()
        assert front.receive() == b"last words"
        receiving = threads.submit(front.receive)
        pair.abandon()
        with pytest.raises(LinkClosed):
            receiving.result(timeout=60)
    os.close(held)


def test_without_descriptors_there_is_no_pair_and_nothing_is_left() -> None:
    with few_descriptors(free=2):  # enough for the sockets, not for the link
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match="Too many open files"):
            LinkPair()
        assert os.listdir("/proc/self/fd") == before


def test_every_offer_has_a_key_of_its_own(pair: LinkPair) -> None:
    other = LinkPair()
    other.close()
    assert len(pair.key) == 32
    assert pair.key != other.key
