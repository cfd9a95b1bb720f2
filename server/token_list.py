"""The tokens that a server accepts: name, role and hash of each, in a file of its own.

It holds SHA-256 hashes. A slow hash, as passwords need, would protect nothing: a token is 256
random bits, which nobody guesses however fast guesses are, and each call would pay for it.

The token that the server makes at its first start is in the list as `default`, ADMIN. It alone
also lies readable in a file (`server.token`), so that programs of the server's user find it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from domains import checks
from domains.clients import DEFAULT_CLIENT, Role
from domains.codec import Malformed, Moment, Name, Sha256, Value, decode_json, encode_json
from domains.regular_files import NotRegular, open_regular
from domains.whole_files import whole_file
from server import lock, token
from server.token import TokenError

MOST_TOKENS = 256
LONGEST_BYTES = 256 * 1024
_LOCK_NAME = "tokens.lock"


class NameTaken(TokenError):
    """Another token has that name."""


class NoSuchToken(TokenError):
    """No token has that name."""


class LastAdmin(TokenError):
    """Without that token nobody could do what needs ADMIN."""


class NamedToken(Value, frozen=True):
    """A token that is accepted; its hash is left out where it is shown as text."""

    name: Name
    role: Role
    sha256: Sha256
    create_time: Moment

    def __post_init__(self) -> None:
        if checks.name("name", self.name) is not None:
            raise ValueError("not a name")

    def __repr__(self) -> str:
        return f"NamedToken({self.name!r}, {self.role.name})"


class TokenList(Value, frozen=True):
    """All that are accepted, in the order in which they were made."""

    tokens: Annotated[tuple[NamedToken, ...], Meta(max_length=MOST_TOKENS)] = ()

    def __post_init__(self) -> None:
        for values in ({one.name for one in self.tokens}, {one.sha256 for one in self.tokens}):
            if len(values) < len(self.tokens):
                raise ValueError("two tokens of the same name or hash")

    def named(self, name: str) -> NamedToken | None:
        """The token of that name."""
        return next((one for one in self.tokens if one.name == name), None)

    @property
    def has_admin(self) -> bool:
        """Whether a token has role ADMIN."""
        return any(one.role is Role.ADMIN for one in self.tokens)


def hashed(secret: str) -> str:
    """What the list holds of a token."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class TokenFiles:
    """The list and the first token, as they lie in the runtime folder.

    Args:
        first: The file of the first token; the list lies beside it.
    """

    def __init__(self, first: Path) -> None:
        self.first = first
        self.list = first.with_name("tokens.json")
        self._lock = first.with_name(_LOCK_NAME)

    def settled(self) -> tuple[TokenList, str]:
        """What a server that starts now accepts, the first token among it, made if need be.

        Returns:
            The tokens; and, where the list could not be written although it should be, why.
            They are accepted all the same: a full disk keeps nobody out.

        Raises:
            TokenError: A file cannot be trusted or read, or the first token cannot be made.
        """
        before = self.read() or TokenList()
        settled = self._with_first(before)
        if settled == before:
            return settled, ""
        try:
            with self._changing() as settled:
                self._write(settled)
        except TokenError as error:
            return self._with_first(self.read() or TokenList()), str(error)
        return settled, ""

    def add(self, name: str, role: Role) -> str:
        """Make a token of that name; this is the only time that it can be read.

        Raises:
            NameTaken: There is one of that name, or it is the first token's.
            TokenError: It is no name, there are 256 already, or the files cannot be used.
        """
        broken = checks.name("name", name)
        if broken is not None:
            raise TokenError(f"The name {name!a} cannot be used. {broken.description}")
        if name == DEFAULT_CLIENT:
            raise NameTaken(f"{name} is the name of the token that the server makes itself.")
        secret = secrets.token_urlsafe(token.TOKEN_BYTES)
        with self._changing() as listed:
            if listed.named(name):
                raise NameTaken(f"There is a token named {name}; revoke it first.")
            if len(listed.tokens) == MOST_TOKENS:
                raise TokenError(f"There are {MOST_TOKENS} tokens already; revoke some.")
            made = NamedToken(name, role, hashed(secret), datetime.now(UTC))
            self._write(TokenList((*listed.tokens, made)))
        return secret

    def revoke(self, name: str) -> None:
        """Take a token out of the list.

        Raises:
            NoSuchToken: There is none of that name.
            LastAdmin: No other has role ADMIN.
            TokenError: The files cannot be used.
        """
        with self._changing() as listed:
            revoked = listed.named(name)
            if revoked is None:
                raise NoSuchToken(f"There is no token named {ascii(name)[1:-1]}.")
            rest = TokenList(tuple(one for one in listed.tokens if one is not revoked))
            if revoked.role is Role.ADMIN and not rest.has_admin:
                raise LastAdmin(
                    f"{name} is the last token with role ADMIN: add another first"
                    " (deviceops token add NAME --role admin)."
                )
            if os.path.lexists(self.first) and hashed(token.read(self.first)) == revoked.sha256:
                # Before the list: the next start would take it for a new first token.
                self.first.unlink()
            self._write(rest)

    def listed(self) -> TokenList:
        """What a server that starts now would accept; nothing is made or changed.

        Raises:
            TokenError: A file cannot be trusted or read.
        """
        listed = self.read() or TokenList()
        return self._with_first(listed) if os.path.lexists(self.first) else listed

    def read(self) -> TokenList | None:
        """The list as it lies there; None when there is none.

        Raises:
            TokenError: It is damaged, too long, unreadable, no regular file or open to others.
        """
        try:
            with open(open_regular(self.list), "rb") as file:
                why = token.distrust(os.fstat(file.fileno()))
                content = file.read(LONGEST_BYTES + 1)
        except FileNotFoundError:
            return None
        except NotRegular:
            why = "is no regular file"
        except OSError as error:
            why = f"cannot be read: {error.strerror or type(error).__name__}"
        else:
            if not why:
                try:
                    return _decoded(content)
                except Malformed as error:
                    why = f"is damaged: {error}"
        raise TokenError(
            f"The list of tokens {self.list} {why}. Close it to others (chown, chmod 600) or"
            " bring it back from a copy; or move it away: then the first token is the only one,"
            " and other clients need new ones."
        )

    def _with_first(self, listed: TokenList) -> TokenList:
        """With the token that lies in its file as `default`, unless it is in the list."""
        revoked = listed.has_admin and not listed.named(DEFAULT_CLIENT)
        if revoked and not os.path.lexists(self.first):
            return listed
        digest = hashed(token.load_or_create(self.first))
        if any(one.sha256 == digest for one in listed.tokens):
            return listed
        first = NamedToken(DEFAULT_CLIENT, Role.ADMIN, digest, datetime.now(UTC))
        others = tuple(one for one in listed.tokens if one.name != DEFAULT_CLIENT)
        return TokenList((first, *others))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[TokenList]:
        """The list while nobody else changes it. What the system refuses is a TokenError."""
        try:
            with lock.alone(self._lock):
                yield self._with_first(self.read() or TokenList())
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            sentence = f"The list of tokens {self.list} cannot be changed: {why}."
            raise TokenError(sentence) from None

    def _write(self, tokens: TokenList) -> None:
        with whole_file(self.list) as file:
            file.write(encode_json(tokens) + b"\n")


def _decoded(content: bytes) -> TokenList:
    if len(content) > LONGEST_BYTES:
        raise Malformed(f"more than {LONGEST_BYTES} bytes")
    return decode_json(TokenList, content)
