"""In what order files run: what takes long begins first, what waits beside what computes.

Else the last long file would be left to one processor while the others have nothing to do,
and all of them would wait for their servers at one time.
It goes with xdist's `--no-loadscope-reorder`, which keeps this order, file by file.
"""

from __future__ import annotations

from collections.abc import Iterable

# Their tests mostly wait for processes.
_WAITING = ("tests/attack/", "tests/contract/test_sketches", "tests/e2e/")
_COMPUTING = (
    "tests/bench/",
    "tests/demo/",
    "tests/domains/inference/backends/",
    "tests/server/worker/",
    "tests/tools/",
)
# They take less long; all others are short.
_NEXT = ("tests/contract/", "tests/domains/memory/", "tests/domains/model/backends/")


def arranged(paths: Iterable[str]) -> list[str]:
    """Files in the order in which they begin; paths are from the root, with `/`.

    Those that wait are spread evenly over those that compute, each in the order of their names.
    """
    groups: tuple[list[str], ...] = ([], [], [], [])
    for path in paths:
        starts = (path.startswith(folders) for folders in (_WAITING, _COMPUTING, _NEXT))
        groups[next((at for at, found in enumerate(starts) if found), 3)].append(path)
    for group in groups:
        group.sort(key=lambda path: (path.rpartition("/")[2], path))
    waiting, computing, *rest = groups
    beside = sorted(
        ((at + 0.5) / len(group), path)
        for group in (waiting, computing)
        for at, path in enumerate(group)
    )
    return [path for _, path in beside] + [path for group in rest for path in group]
