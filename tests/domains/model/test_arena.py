"""The arena: written here, read by other processes, and gone with the one that made it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from domains.limits import LIMITS
from domains.model.backends.arena import Arena, ArenaUnavailable, arena_bytes, open_arena

SIZE = 1 << 38
PAGE = 4096

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="the arena of this system has no file"
)

READER = """
import sys
from domains.model.backends.arena import open_arena
memory = open_arena(sys.argv[1], int(sys.argv[2]))
print(bytes(memory[int(sys.argv[3]):int(sys.argv[4])]).decode(), memory.readonly, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def arena() -> Iterator[Arena]:
    """One of far more addresses than this machine has memory."""
    made = Arena(SIZE)
    yield made
    made.close()


def test_only_what_is_written_takes_memory(arena: Arena) -> None:
    assert arena.taken_bytes() == 0

    arena.memory[SIZE - PAGE : SIZE - PAGE + 5] = b"hello"
    assert arena.taken_bytes() == PAGE

    arena.give_back(SIZE - PAGE, PAGE)
    assert arena.taken_bytes() == 0
    assert bytes(arena.memory[SIZE - PAGE : SIZE - PAGE + 5]) == bytes(5)


def test_another_process_reads_what_is_written_without_a_copy(arena: Arena) -> None:
    arena.memory[PAGE : PAGE + 5] = b"hello"
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, arena.name, str(SIZE), str(PAGE), str(PAGE + 5)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline().split() == ["hello", "True"]
        assert arena.taken_bytes() == PAGE
        reader.kill()

    arena.memory[PAGE : PAGE + 5] = b"again"
    assert bytes(open_arena(arena.name, SIZE)[PAGE : PAGE + 5]) == b"again"


def test_there_is_nothing_to_open_when_its_process_is_gone() -> None:
    program = (
        "import os\nfrom domains.model.backends.arena import Arena\n"
        "arena = Arena(1 << 30)\nprint(arena.name, flush=True)\nos.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    with pytest.raises(FileNotFoundError):
        open_arena(done.stdout.strip(), 1 << 30)


def test_a_view_of_more_than_there_is_is_refused(arena: Arena) -> None:
    with pytest.raises(ValueError, match="smaller"):
        open_arena(arena.name, SIZE + PAGE)


def test_there_is_one_for_the_largest_budget_that_may_be_asked_for() -> None:
    most = LIMITS["SetCacheBudgetRequest.budget_bytes"].maximum
    assert most is not None

    made = Arena(arena_bytes(int(most), 1 << 34))

    assert made.size >= 1 << 34
    made.close()


def test_where_addresses_cost_memory_there_are_no_more_of_them_than_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create")

    assert arena_bytes(1 << 50, 1 << 34) == 1 << 34
    assert arena_bytes(1 << 30, 1 << 34) == 1 << 30
    assert arena_bytes(1 << 30, 0) == 1 << 30  # nobody knows how much there is


def test_a_system_without_such_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")

    with pytest.raises(ArenaUnavailable, match="could open by name"):
        Arena(SIZE)
