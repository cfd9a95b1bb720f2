"""Several threads read one file at once, also where a file has one position for all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from domains.model.backends import shared_file, weight_reading
from domains.model.backends.shared_file import READS_AT_ONCE, SharedFile
from domains.model.backends.weight_reading import ParallelReader
from domains.values import ModelPlace

PIECE = 1 << 16


@pytest.fixture(params=[True, False])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With reads that name their place, and without."""
    if request.param and not READS_AT_ONCE:
        pytest.skip("the system has no such reads")
    for module in (shared_file, weight_reading):
        monkeypatch.setattr(module, "READS_AT_ONCE", request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(64 * PIECE + 5))
    return file


@pytest.mark.usefixtures("at_once")
def test_each_thread_gets_what_stands_where_it_reads(path: Path) -> None:
    content = path.read_bytes()
    with open(path, "rb", buffering=0) as opened, ThreadPoolExecutor(8) as threads:
        shared = SharedFile(opened)

        def piece(begin: int) -> bytes:
            target = bytearray(PIECE)
            return bytes(target[: shared.read_into(begin, memoryview(target))])

        places = [*range(0, len(content), PIECE)] * 4
        found = list(threads.map(piece, places))
        assert piece(len(content)) == b""

    assert found == [content[begin : begin + PIECE] for begin in places]


@pytest.mark.usefixtures("at_once")
def test_a_whole_file_is_read_in_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_reading, "_READ_BYTES", PIECE)
    reader, place = ParallelReader(), ModelPlace.of(path)
    (state,) = reader.files(place)
    target, counted = bytearray(state.size_bytes), list[int]()

    reader.read(place, [(state, memoryview(target))], counted.append)

    assert target == path.read_bytes()
    assert sum(counted) == state.size_bytes
