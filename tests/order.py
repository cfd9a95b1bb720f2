"""In what order files run: what takes long begins first.

Else the last long file would be left to one processor while the others have nothing to do.
It goes with xdist's `--no-loadscope-reorder`, which keeps this order, file by file.
"""

from __future__ import annotations

# Files that start servers and workers, then what computes; the many short files come last.
_LONG = (
    "tests/attack/",
    "tests/e2e/",
    "tests/bench/",
    "tests/demo/",
    "tests/server/worker/",
    "tests/domains/inference/backends/",
    "tests/tools/",
    "tests/contract/",
    "tests/domains/model/backends/",
    "tests/domains/memory/",
)


def rank(path: str) -> int:
    """Where a file stands in the order, by its path from the root, with `/`; 0 is first."""
    return next((at for at, folder in enumerate(_LONG) if path.startswith(folder)), len(_LONG))
