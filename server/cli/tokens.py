"""The list of tokens of this machine's server, which need not run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from server.cli.failures import CallFailed, CallFailure
from server.data_folder import prepare_runtime_folder
from server.roles import Role
from server.token import TokenError
from server.token_list import LastAdmin, NameTaken, NoSuchToken, TokenFiles

if TYPE_CHECKING:
    from server.config import Settings

HEADINGS = ("name", "role", "created")
_STATUSES: dict[type[TokenError], str] = {
    NameTaken: "ALREADY_EXISTS",
    NoSuchToken: "NOT_FOUND",
    LastAdmin: "FAILED_PRECONDITION",
}


class Row(NamedTuple):
    """A token as it is listed."""

    name: str
    role: str
    create_time: str


def files(settings: Settings) -> TokenFiles:
    """The files of the tokens; their folder is made, closed to others, when it is missing."""
    with _as_failures():
        prepare_runtime_folder(settings)
    return TokenFiles(settings.token_path)


def add(tokens: TokenFiles, name: str, role: str) -> str:
    """Make a token, which is returned."""
    with _as_failures():
        return tokens.add(name, Role(role))


def revoke(tokens: TokenFiles, name: str) -> None:
    """Take a token out of the list."""
    with _as_failures():
        tokens.revoke(name)


def rows(tokens: TokenFiles) -> list[Row]:
    """The tokens, oldest first."""
    with _as_failures():
        listed = tokens.listed().tokens
    return [Row(one.name, one.role, f"{one.create_time:%Y-%m-%d %H:%M:%SZ}") for one in listed]


@contextlib.contextmanager
def _as_failures() -> Iterator[None]:
    try:
        yield
    except TokenError as error:
        status = _STATUSES.get(type(error), "INVALID_ARGUMENT")
        raise CallFailed(CallFailure(status=status, message=str(error))) from error
    except OSError as error:
        raise CallFailed(CallFailure(status="INVALID_ARGUMENT", message=str(error))) from error
