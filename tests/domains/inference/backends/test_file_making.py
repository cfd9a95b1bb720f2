"""Files made beside steps: each out at once, none lost, errors told."""

from __future__ import annotations

import threading

import pytest

from domains.errors import Cancelled
from domains.inference.backends.clock import Clock
from domains.inference.backends.file_making import FileMaking, Make
from domains.session.jobs import EncodedImage
from domains.values import Degradation, DegradationKind, ImageFileFormat
from tests.fakes.jobs import Listener

_LONG = 30.0


def file(index: int) -> EncodedImage:
    return EncodedImage(index, index, 8, 8, ImageFileFormat.PNG, b"file")


def making(index: int) -> Make:
    return lambda: (file(index), [])


def nothing(_: object) -> None:
    pass


def test_work_goes_on_while_a_file_is_made() -> None:
    heard, at_work = Listener(), threading.Event()

    def slow() -> tuple[EncodedImage, list[Degradation]]:
        assert at_work.wait(_LONG)
        return file(0), []

    with FileMaking(heard, nothing, Clock()) as files:
        assert not files.at_work
        files.start(slow)
        assert heard.events == []
        assert files.at_work
        at_work.set()
    assert not files.at_work
    assert heard.events == [file(0)]


def test_a_file_is_out_before_the_next_one_is_asked_for() -> None:
    class Waited(Listener):
        def emit(self, event: object) -> None:
            out.set()

    out = threading.Event()
    with FileMaking(Waited(), nothing, Clock()) as files:
        files.start(making(0))
        assert out.wait(_LONG)


def test_files_come_in_their_order() -> None:
    heard = Listener()
    with FileMaking(heard, nothing, Clock()) as files:
        for index in range(5):
            files.start(making(index))
    assert heard.events == [file(index) for index in range(5)]


def test_what_is_drawn_is_not_lost_when_work_is_stopped() -> None:
    heard = Listener()

    def stopped() -> None:
        with FileMaking(heard, nothing, Clock()) as files:
            files.start(making(0))
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        stopped()
    assert heard.events == [file(0)]


def test_a_file_that_cannot_be_made_ends_the_work() -> None:
    def broken() -> tuple[EncodedImage, list[Degradation]]:
        raise OSError("no space left")

    heard = Listener()

    def make(*all_of_them: Make) -> None:
        with FileMaking(heard, nothing, Clock()) as files:
            for each in all_of_them:
                files.start(each)

    with pytest.raises(OSError, match="no space left"):
        make(broken, making(1))
    with pytest.raises(OSError, match="no space left"):
        make(broken)
    assert heard.events == []


def test_time_and_what_a_file_has_no_room_for_are_told() -> None:
    short = Degradation(DegradationKind.PARAMETERS_OMITTED, "no room")
    noted: list[Degradation] = []
    clock = Clock()
    with FileMaking(Listener(), noted.extend, clock) as files:
        files.start(lambda: (file(0), [short]))
    assert noted == [short]
    assert clock.timings().encode_image > 0
