"""Files of memory mapped where huge pages can be used, and made of them."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from domains.memory.backends.file_mapping import HUGE_PAGE_BYTES, FileMapping

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux's")
SIZE = 2 * HUGE_PAGE_BYTES + 5000


@pytest.fixture
def handle() -> Iterator[int]:
    handle = os.memfd_create("test")
    os.posix_fallocate(handle, 0, SIZE)
    yield handle
    os.close(handle)


def mapped_bytes() -> int:
    """Address space of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_two_mappings_are_one_memory_aligned_for_huge_pages(handle: int) -> None:
    one, other = FileMapping(handle, SIZE), FileMapping(handle, SIZE)
    ctypes.memmove(one.address + SIZE - 3, b"end", 3)
    assert other.populate(0, SIZE)
    assert ctypes.string_at(other.address + SIZE - 3, 3) == b"end"
    assert one.address % HUGE_PAGE_BYTES == other.address % HUGE_PAGE_BYTES == 0
    one.close()
    other.close()


def test_huge_pages_change_no_byte_and_no_size(handle: int) -> None:
    mapping = FileMapping(handle, SIZE)
    pattern = os.urandom(SIZE)
    ctypes.memmove(mapping.address, pattern, SIZE)
    taken = os.fstat(handle).st_blocks
    mapping.make_huge()  # whether it can is the kernel's
    assert ctypes.string_at(mapping.address, SIZE) == pattern
    assert os.fstat(handle).st_blocks == taken
    mapping.close()


def test_what_is_smaller_than_a_huge_page_is_none() -> None:
    handle = os.memfd_create("test")
    os.posix_fallocate(handle, 0, 5000)
    mapping = FileMapping(handle, 5000)
    assert not mapping.make_huge()
    mapping.close()
    os.close(handle)


def test_nothing_stays_mapped(handle: int) -> None:
    FileMapping(handle, SIZE).close()
    before = mapped_bytes()
    for _ in range(20):
        mapping = FileMapping(handle, SIZE)
        mapping.close()
        mapping.close()  # once more is harmless
    assert mapped_bytes() - before < SIZE


def test_a_smaller_file_is_refused(handle: int) -> None:
    with pytest.raises(ValueError, match="smaller"):
        FileMapping(handle, SIZE + 1)


def test_a_refusal_of_the_system_leaves_nothing_mapped(handle: int) -> None:
    readable = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY)
    before = mapped_bytes()
    for _ in range(20):
        with pytest.raises(PermissionError):
            FileMapping(readable, SIZE)
    assert mapped_bytes() - before < SIZE
    os.close(readable)
