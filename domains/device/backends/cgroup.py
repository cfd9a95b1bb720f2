"""The memory limit a container or service manager put on this process (Linux)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_V1_UNLIMITED = 1 << 60


@dataclass(frozen=True)
class MemoryLimit:
    """The tightest limit above this process, all in bytes, and the files it comes from.

    `used_bytes` leaves out cached files, which the kernel gives up on demand, also those
    that were read more than once: it counts them as active and takes them all the same.
    """

    limit_bytes: int
    used_bytes: int
    source: str
    used_source: str

    @property
    def room_bytes(self) -> int:
        """What can still be had."""
        return max(0, self.limit_bytes - self.used_bytes)


@dataclass(frozen=True)
class _Files:
    limit: str
    used: str
    cached: tuple[str, ...]


_V2 = _Files("memory.max", "memory.current", ("inactive_file", "active_file"))
_V1 = _Files(
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)


def memory_limit(
    *, mount: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")
) -> MemoryLimit | None:
    """The tightest limit that applies, of version 2 or else 1; None where there is none."""
    found = memory_limits(mount=mount, process=process)
    return min(found, key=lambda limit: limit.limit_bytes, default=None)


def memory_limits(
    *, mount: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")
) -> list[MemoryLimit]:
    """Every limit that applies: the one with the least room may not be the tightest."""
    v2_path, v1_path = _paths(process)
    return [
        *_limits(mount, v2_path, _V2),
        *_limits(mount / "memory", v1_path, _V1),
    ]


def _paths(process: Path) -> tuple[str, str]:
    """Where this process stands in the hierarchies of version 2 and 1."""
    v2, v1 = "/", "/"
    try:
        lines = process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return v2, v1
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0":
            v2 = path
        elif "memory" in controllers.split(","):
            v1 = path
    return v2, v1


def _limits(mount: Path, path: str, files: _Files) -> list[MemoryLimit]:
    """Every limit from the process's own group up to the top; each binds."""
    below = Path(path.lstrip("/"))
    # In a container the path may be the host's, which is not there.
    folders = {mount / part for part in (below, *below.parents) if ".." not in part.parts}
    return [limit for folder in folders if (limit := _limit(folder, files)) is not None]


def _limit(folder: Path, files: _Files) -> MemoryLimit | None:
    limit = _number(folder / files.limit)
    used = _number(folder / files.used)
    if limit is None or used is None or limit >= _V1_UNLIMITED:
        return None
    used -= min(used, _stat(folder / "memory.stat", files.cached))
    used_source = f"cgroup {' - '.join((files.used, *files.cached))}"
    return MemoryLimit(limit, used, f"cgroup {files.limit}", used_source)


def _number(path: Path) -> int | None:
    """The number in a file; None for "max" and where there is no such file."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None


def _stat(path: Path, keys: tuple[str, ...]) -> int:
    """The sum of some counts of a file; 0 where there is no such file."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0
    pairs = (line.split() for line in lines)
    return sum(int(pair[1]) for pair in pairs if pair and pair[0] in keys)
