"""Files that are written completely or not at all, and over no other one unasked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_MOST_SUFFIXES = 10_000


class NewFile:
    """A file in the making.

    Args:
        file: Where its bytes are written.
        path: The name it shall have; after the block, the one that it has.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self.path = path


@contextmanager
def new_file(path: Path, *, replace: bool = False) -> Iterator[NewFile]:
    """A file that gets its name when the block ends well, and is gone when it does not.

    An existing file stays as it is: `-1`, `-2`, ... is added to the name, unless
    `replace` is set.

    Raises:
        OSError: The disk is full, the folder cannot be written, and the like.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".deviceops-", dir=path.parent)
    target: Path | None = None
    try:
        with os.fdopen(handle, "wb") as file:
            made = NewFile(file, path)
            yield made
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        made.path = target = path if replace else _reserve(path)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        if target is not None and not replace:
            target.unlink(missing_ok=True)
        raise


def save(data: bytes, path: Path) -> Path:
    """Write `data` and return where it went; names and errors as `new_file` has them."""
    with new_file(path) as made:
        made.file.write(data)
    return made.path


def _reserve(path: Path) -> Path:
    """Create the first free name, empty, so that nobody else takes it."""
    for number in range(_MOST_SUFFIXES):
        candidate = path if number == 0 else path.with_stem(f"{path.stem}-{number}")
        try:
            candidate.touch(exist_ok=False)
        except FileExistsError:
            continue
        return candidate
    raise FileExistsError(f"{path} and {_MOST_SUFFIXES - 1} names after it are taken")


def _umask() -> int:
    """This process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
