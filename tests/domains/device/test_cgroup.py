"""Memory limits of containers and services."""

from __future__ import annotations

from pathlib import Path

import pytest

from domains.device.backends import cpu
from domains.device.backends.cgroup import MemoryLimit, memory_limit


def group(
    folder: Path, limit: str, used: int = 300, cached: int = 100, read_again: int = 0
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(
        f"anon 5\ninactive_file {cached}\nactive_file {read_again}\n"
    )


def test_the_tightest_limit_above_the_process_counts(tmp_path: Path) -> None:
    process = tmp_path / "cgroup"
    process.write_text("0::/service/worker\n")
    group(tmp_path / "fs", "max")
    group(tmp_path / "fs" / "service", "1000")
    group(tmp_path / "fs" / "service" / "worker", "5000")

    assert memory_limit(mount=tmp_path / "fs", process=process) == MemoryLimit(
        1000, 200, "cgroup memory.max", "cgroup memory.current - inactive_file - active_file"
    )


def test_files_that_were_read_again_are_cache_as_well(tmp_path: Path) -> None:
    """Weights that lie in the system's cache for long; of the machine they are available."""
    process = tmp_path / "cgroup"
    process.write_text("0::/\n")
    group(tmp_path / "fs", "1000", used=990, cached=100, read_again=600)

    limit = memory_limit(mount=tmp_path / "fs", process=process)

    assert limit is not None
    assert (limit.used_bytes, limit.room_bytes) == (290, 710)


def test_in_a_container_the_hosts_path_is_not_there_and_the_top_counts(tmp_path: Path) -> None:
    process = tmp_path / "cgroup"
    process.write_text("0::/docker/abc\n")
    group(tmp_path / "fs", "4096")

    limit = memory_limit(mount=tmp_path / "fs", process=process)

    assert limit is not None
    assert limit.limit_bytes == 4096


@pytest.mark.parametrize("written", ["max", "", "x\xff"])
def test_no_limit_is_none(tmp_path: Path, written: str) -> None:
    process = tmp_path / "cgroup"
    process.write_text("0::/\n")
    group(tmp_path / "fs", written)

    assert memory_limit(mount=tmp_path / "fs", process=process) is None


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(mount=tmp_path / "no", process=tmp_path / "none") is None


def test_a_path_that_climbs_is_not_followed(tmp_path: Path) -> None:
    process = tmp_path / "cgroup"
    process.write_text("0::/../outside\n")
    group(tmp_path / "outside", "1")
    group(tmp_path / "fs", "max")

    assert memory_limit(mount=tmp_path / "fs", process=process) is None


def test_version_one_is_understood_and_its_unlimited_is_none(tmp_path: Path) -> None:
    process = tmp_path / "cgroup"
    process.write_text("9:cpu,cpuacct:/x\n4:memory:/job\n0::/\n")
    memory = tmp_path / "fs" / "memory"
    (memory / "job").mkdir(parents=True)
    (memory / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (memory / "memory.usage_in_bytes").write_text("7\n")
    assert memory_limit(mount=tmp_path / "fs", process=process) is None

    (memory / "job" / "memory.limit_in_bytes").write_text("2048\n")
    (memory / "job" / "memory.usage_in_bytes").write_text("50\n")
    (memory / "job" / "memory.stat").write_text(
        "inactive_file 1\ntotal_inactive_file 4\ntotal_active_file 6\n"
    )
    limit = memory_limit(mount=tmp_path / "fs", process=process)

    assert limit is not None
    assert (limit.limit_bytes, limit.used_bytes) == (2048, 40)
    assert limit.source == "cgroup memory.limit_in_bytes"


def test_the_processors_memory_is_its_containers_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = MemoryLimit(1 << 20, 0, "cgroup memory.max", "")
    monkeypatch.setattr(cpu, "memory_limit", lambda: limit)

    assert (cpu.total_memory().value, cpu.total_memory().source) == (
        1 << 20,
        "cgroup memory.max",
    )

    monkeypatch.setattr(cpu, "memory_limit", lambda: None)
    assert "psutil" in cpu.total_memory().source
