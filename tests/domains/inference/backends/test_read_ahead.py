"""Files read ahead: the bytes of the file, whatever is asked for, and an end at any time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from domains.inference.backends import read_ahead
from domains.inference.backends.read_ahead import ReadAhead


@pytest.fixture
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, bytes]:
    monkeypatch.setattr(read_ahead, "_PIECE_BYTES", 1_000)
    path = tmp_path / "weights"
    path.write_bytes(random.Random(3).randbytes(20_000))
    return path, path.read_bytes()


def pieces_of(size: int, seed: int) -> list[tuple[int, int]]:
    """Pieces one after another, some with room between them, one longer than a span."""
    pick = random.Random(seed)
    pieces, offset = [], pick.randrange(100)
    while offset < size:
        length = min(pick.choice((1, 30, 400, 2_500)), size - offset)
        pieces.append((offset, length))
        offset += length + pick.choice((0, 0, 0, 7))
    return pieces


@pytest.mark.parametrize("seed", range(5))
def test_what_is_lent_is_what_the_file_holds(content: tuple[Path, bytes], seed: int) -> None:
    path, data = content
    wanted = pieces_of(len(data), seed)
    with path.open("rb", buffering=0) as file:
        reading = ReadAhead(file, page_locked=False)
        reading.announce(wanted)
        for offset, length in wanted:
            lent = reading.lend(offset, length)
            assert lent is not None
            assert bytes(lent) == data[offset : offset + length]
        reading.close()


def test_pieces_in_no_order_and_some_passed_over(content: tuple[Path, bytes]) -> None:
    path, data = content
    with path.open("rb", buffering=0) as file:
        reading = ReadAhead(file, page_locked=False)
        reading.announce([(19_000, 10), (0, 100), (5_000, 100), (5_100, 900), (100, 100)])
        for offset, length in ((19_000, 10), (5_100, 900), (100, 100)):
            lent = reading.lend(offset, length)
            assert lent is not None
            assert bytes(lent) == data[offset : offset + length]
        assert reading.lend(0, 100) is None  # it was passed over
        reading.close()


def test_a_file_that_is_shorter_lends_nothing_there(content: tuple[Path, bytes]) -> None:
    path, data = content
    with path.open("rb", buffering=0) as file:
        reading = ReadAhead(file, page_locked=False)
        reading.announce([(0, 500), (len(data) - 5, 10)])
        assert reading.lend(0, 500) is not None
        assert reading.lend(len(data) - 5, 10) is None
        reading.close()


def test_what_was_not_announced_is_read_as_before(content: tuple[Path, bytes]) -> None:
    path, data = content
    with path.open("rb", buffering=0) as file:
        reading = ReadAhead(file, page_locked=False)
        assert reading.lend(0, 4) is None
        target = bytearray(4)
        assert reading.read_into(8, memoryview(target)) == 4
        assert bytes(target) == data[8:12]
        assert reading.size_bytes == len(data)
        reading.close()


def test_an_end_in_the_middle_leaves_no_thread(content: tuple[Path, bytes]) -> None:
    path, data = content
    with path.open("rb", buffering=0) as file:
        reading = ReadAhead(file, page_locked=False)
        reading.announce(pieces_of(len(data), 1))
        reading.close()
        assert not any(thread.is_alive() for thread in reading._threads._threads)


def test_a_disk_that_fails_says_so(
    content: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: ReadAhead, _offset: int, _target: memoryview) -> int:
        raise OSError(5, "Input/output error")

    path, _ = content
    monkeypatch.setattr(ReadAhead, "read_into", fail)
    with path.open("rb", buffering=0) as file:
        reading = ReadAhead(file, page_locked=False)
        reading.announce([(0, 10)])
        with pytest.raises(OSError, match="Input/output"):
            reading.lend(0, 10)
        reading.close()
