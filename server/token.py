"""The first token: made at the first start, kept in a file only its owner can read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from domains.regular_files import NotRegular, open_regular

TOKEN_BYTES = 32
LONGEST_BYTES = 4096
"""Most bytes of a token file, its line break included."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class TokenError(Exception):
    """The token file cannot be trusted or read; the message says what to do."""


def load_or_create(path: Path) -> str:
    """The token in `path`, made now if there is none; the same over restarts.

    The folder is made for its owner alone. Two servers that start at once end up with
    the same token.

    Raises:
        TokenError: The file is empty, too long, unreadable, open to other users, or cannot be
            written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create(path, secrets.token_urlsafe(TOKEN_BYTES))
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise TokenError(f"The token file {path} cannot be made: {why}.") from None
    return read(path)


def read(path: Path) -> str:
    """The token in `path`, which may be a link.

    Raises:
        TokenError: There is none, it is not one line of at most 4096 bytes, or it is open to
            other users.
    """
    try:
        with open(open_regular(path, follow=True), "rb") as file:
            distrusted = distrust(os.fstat(file.fileno()))
            if distrusted:
                raise TokenError(
                    f"The token file {path} {distrusted}: delete it for a new token, or allow"
                    " its owner alone (chown, chmod 600)."
                )
            content = file.read(LONGEST_BYTES + 1)
    except FileNotFoundError:
        if path.is_symlink():
            raise TokenError(
                f"The token file {path} is a link to nothing; delete it for a new one."
            ) from None
        raise TokenError(f"There is no token file {path}.") from None
    except NotRegular:
        raise TokenError(
            f"The token file {path} is no regular file; move it away for a new one."
        ) from None
    except OSError as error:
        raise TokenError(
            f"The token file {path} cannot be read: {error.strerror or error}."
        ) from None
    if len(content) > LONGEST_BYTES:
        raise TokenError(
            f"The token file {path} has more than {LONGEST_BYTES} bytes, which is no token;"
            " delete it for a new one."
        )
    token = content.strip()
    if len(token) < TOKEN_BYTES or not token.isascii():
        raise TokenError(f"The token file {path} holds no token; delete it for a new one.")
    if not all(0x20 < byte < 0x7F for byte in token):
        raise TokenError(
            f"The token file {path} is more than one word on one line; delete it for a new one."
        )
    return token.decode("ascii")


def _create(path: Path, token: str) -> None:
    """Write aside and link into place: nobody sees half a token, and the first one wins."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        _publish(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _publish(aside: Path, path: Path) -> None:
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            aside.replace(path)


def distrust(status: os.stat_result) -> str:
    """Why a file of that status cannot be trusted, as a sentence's rest; empty if it can."""
    if os.name != "posix":  # on Windows the profile folder's access list protects it
        return ""
    if status.st_uid not in (os.getuid(), 0):
        return "belongs to another user"
    return "is open to other users" if status.st_mode & _OTHERS else ""
