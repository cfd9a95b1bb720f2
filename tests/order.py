"""In what order files run: what takes long begins first.

Else the last long file would be left to one processor while the others have nothing to do.
It goes with xdist's `--no-loadscope-reorder`, which keeps this order, file by file.
"""

from __future__ import annotations

# Of each group in the order of the files' names, so that those of a folder which wait for
# processes run beside those of another which compute.
_LONG = (
    ("tests/attack/", "tests/e2e/"),
    (
        "tests/bench/",
        "tests/demo/",
        "tests/domains/inference/backends/",
        "tests/server/worker/",
        "tests/tools/",
    ),
    ("tests/contract/", "tests/domains/memory/", "tests/domains/model/backends/"),
)


def place(path: str) -> tuple[int, str]:
    """Where a file stands in the order, by its path from the root, with `/`; it sorts."""
    found = (at for at, folders in enumerate(_LONG) if path.startswith(folders))
    return next(found, len(_LONG)), path.rpartition("/")[2]
