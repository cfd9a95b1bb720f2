"""What to do about a refusal, in the words of this command line."""

from __future__ import annotations

from dataclasses import replace

from server.cli.failures import CallFailure
from server.version import own_version

_BY_REASON = {
    "TOKEN_MISSING": "Name the token's file with --token-file FILE.",
    "TOKEN_INVALID": "Is it another server's token? Name the right one with --token-file FILE.",
    "ROLE_REQUIRED": "Your name and role on this server: deviceops server info",
    "NOT_BUILT": "What this server does, and what not yet: deviceops server info",
    "UPLOAD_NOT_FOUND": "What had arrived of it is gone; send the file again from its start.",
}
_BY_TIMEOUT = {
    "queue": "It waited longer than its --queue-timeout. What is before it:"
    " deviceops sessions queue. With --any-of KIND it may run elsewhere.",
    "run": "It ran longer than its --run-timeout; give it more, or less to do.",
}


def advised(failure: CallFailure) -> CallFailure:
    """The failure with what helps against its reason; as it is where nothing is known."""
    if failure.reason == "DEADLINE_EXPIRED":
        return more_advice(failure, _BY_TIMEOUT.get(failure.metadata.get("timeout", ""), ""))
    return more_advice(failure, _BY_REASON.get(failure.reason, ""))


def more_advice(failure: CallFailure, line: str) -> CallFailure:
    """The failure with a further line of advice; the same one for an empty line."""
    return replace(failure, advice="\n".join(filter(None, (failure.advice, line))))


def newer_than_server(server_version: str) -> str:
    """Advice for fields that the server does not know; empty text for an unknown version."""
    server = f"the server is {server_version}" if server_version else "the server is older"
    return (
        f"This command line is version {own_version()}, {server}: update the server, or use"
        " the command line that came with it."
    )
