"""Who calls: the client of a token or of a certificate, by the list of tokens as it is now."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog

from domains import checks
from domains.clients import DEFAULT_CLIENT, Caller, Role
from domains.errors import Reason, Unauthenticated
from domains.loops import Loop
from server.token import TokenError
from server.token_list import NamedToken, TokenFiles, TokenList, hashed

_SCHEME = "bearer "
_LOOK_SECONDS = 0.5

_log = structlog.get_logger("deviceops.tokens")


@dataclass(frozen=True)
class Identity:
    """A client and what it is known by."""

    caller: Caller
    sha256: str = field(default="", repr=False)
    """Of its token; empty where that is not what it is known by."""


EVERYBODY = Identity(Caller(DEFAULT_CLIENT, Role.ADMIN))
"""Whoever calls, where no token is asked for."""


class Identities:
    """Knows clients by what comes with their calls, and notices when tokens come and go.

    What cannot be read while the server runs changes nothing: the tokens last read stay.

    Args:
        files: The tokens; None takes everybody for the default client.
        certificates: Whether clients show certificates that were checked: one suffices then.

    Raises:
        TokenError: A file cannot be trusted or read, or the first token cannot be made.
    """

    def __init__(self, files: TokenFiles | None, *, certificates: bool = False) -> None:
        self._files = files
        self._certificates = certificates and files is not None
        self._listed = TokenList()
        self._trouble = ""
        self._told: list[Callable[[], None]] = []
        if files is not None:
            self._listed, why = files.settled()
            if why:
                _log.error("token_list_not_written", why=why)
            if not self._listed.has_admin:
                _log.warning("no_admin_token", advice="deviceops token add NAME --role admin")

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Work in the background: looks whether tokens have come or gone."""
        return (Loop("tokens", _LOOK_SECONDS, self.look),) if self._files else ()

    def on_change(self, tell: Callable[[], None]) -> None:
        """Have `tell` called, on the event loop, after tokens have come or gone."""
        self._told.append(tell)

    def identify(self, metadata: Iterable[Any] | None, certificate: str | None) -> Identity:
        """The client of a call. A token counts before a certificate.

        Args:
            metadata: What came with the call.
            certificate: The common name of the client's certificate, None without one.

        Raises:
            Unauthenticated: It is nobody that this server knows.
        """
        if self._files is None:
            return EVERYBODY
        headers = [str(value) for key, value in metadata or () if key == "authorization"]
        if headers:
            return self._by_token(headers)
        if self._certificates and certificate is not None:
            return self._by_certificate(certificate)
        raise Unauthenticated(
            'Send the server\'s token as metadata "authorization: Bearer TOKEN".',
            reason=Reason.TOKEN_MISSING,
        )

    def holds(self, identity: Identity) -> bool:
        """Whether a client that was known would be known again, with that role at least."""
        if self._files is None:
            return True
        name = identity.caller.name
        listed = self._listed.named(name)
        if identity.sha256:
            return (
                listed is not None
                and listed.sha256 == identity.sha256
                and listed.role.includes(identity.caller.role)
            )
        return self._role_of_certificate(name).includes(identity.caller.role)

    async def look(self) -> None:
        """Take up what the list says now."""
        assert self._files is not None
        try:
            listed = await asyncio.to_thread(self._files.read)
        except TokenError as error:
            return self._keep(str(error))
        if listed is None:
            return self._keep(
                f"The list of tokens {self._files.list} is gone. Bring it back from a copy, or"
                " all but the first token are refused after the next start or change."
            )
        if self._trouble:
            _log.info("token_list_readable_again")
        self._trouble = ""
        if listed != self._listed:
            self._take_up(listed)

    def _keep(self, trouble: str) -> None:
        """Say once what is wrong."""
        if trouble != self._trouble:
            _log.error("token_list_not_taken_up", why=trouble, kept=len(self._listed.tokens))
        self._trouble = trouble

    def _take_up(self, listed: TokenList) -> None:
        before, after = set(self._listed.tokens), set(listed.tokens)
        self._listed = listed
        _log.info("tokens_changed", added=_names(after - before), gone=_names(before - after))
        for tell in self._told:
            tell()

    def _by_token(self, headers: list[str]) -> Identity:
        if len(headers) > 1:
            raise Unauthenticated(
                "Send one authorization header, not several.", reason=Reason.TOKEN_INVALID
            )
        [header] = headers
        if header[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated(
                'The authorization header must begin with "Bearer ".',
                reason=Reason.TOKEN_INVALID,
            )
        presented = hashed(header[len(_SCHEME) :].strip())
        known: NamedToken | None = None
        for one in self._listed.tokens:  # all of them: the time says nothing of which it was
            if hmac.compare_digest(one.sha256, presented):
                known = one
        if known is None:
            raise Unauthenticated(
                "The token is not this server's, or was revoked.", reason=Reason.TOKEN_INVALID
            )
        return Identity(Caller(known.name, known.role), known.sha256)

    def _by_certificate(self, name: str) -> Identity:
        """The default client has ADMIN without anybody's choice: no certificate is that."""
        if checks.name("name", name) is not None or name == DEFAULT_CLIENT:
            raise Unauthenticated(
                "The common name of the client's certificate must be a name of letters, digits,"
                f' dots, underscores and hyphens, and not "{DEFAULT_CLIENT}"; or send a token.',
                reason=Reason.TOKEN_INVALID,
            )
        return Identity(Caller(name, self._role_of_certificate(name)))

    def _role_of_certificate(self, name: str) -> Role:
        listed = self._listed.named(name)
        return Role.RUN if listed is None else listed.role


def _names(tokens: set[NamedToken]) -> list[str]:
    return sorted(one.name for one in tokens)
