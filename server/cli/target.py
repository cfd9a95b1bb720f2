"""Which server a command speaks to, from its options, the environment and the port file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.client import Target, is_local
from server.cli.failures import CallFailed, CallFailure
from server.cli.wording import printable

if TYPE_CHECKING:
    from server.config import Settings


@dataclass(frozen=True)
class ServerOptions:
    """What the options before the command say about the server; None where nothing."""

    server: str | None = None
    token: str | None = None
    token_file: Path | None = None
    tls_ca: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None


def resolve(options: ServerOptions) -> Target:
    """The server to speak to.

    Without an address: the one whose port file lies in the runtime folder, else the
    configured host and port. This machine's token is sent to this machine only.

    Raises:
        server.config.ConfigError: A setting is wrong.
        CallFailed: The address, a file that an option names, or the token file cannot be used.
    """
    from server import config

    given = options.token
    if not given and options.token_file is not None:
        given = read_token(options.token_file)
    client = config.load_client(
        address=options.server,
        token=given,
        tls_ca=options.tls_ca,
        client_certificate=options.client_certificate,
        client_key=options.client_key,
    )
    token = client.token.get_secret_value()
    address, remark = without_scheme(client.address), ""
    if not address or (not token and is_local(address)):
        settings = config.load()
        if not address:
            address, remark = _local(settings)
        if not token and is_local(address) and settings.token_path.exists():
            token = read_token(settings.token_path)
    authority = _read(client.tls_ca) if client.tls_ca is not None else None
    pair = None
    if client.client_certificate is not None and client.client_key is not None:
        pair = _read(client.client_certificate), _read(client.client_key)
    return Target(address, token, authority, pair, remark)


def without_scheme(address: str) -> str:
    """HOST:PORT of an address as browsers write it.

    Raises:
        CallFailed: It has another scheme than http.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    if scheme.lower() != "http":
        message = f"A server's address is HOST:PORT without a scheme, not {printable(address)}."
        advice = "For TLS name the server's certificate authority with --tls-ca."
        raise CallFailed(CallFailure(status="LOCAL", message=message, advice=advice))
    return rest.rstrip("/")


def reachable(address: str) -> str:
    """An address to connect to for one that a server listens on."""
    host, separator, port = address.rpartition(":")
    loopback = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}
    return f"{loopback.get(host, host)}{separator}{port}"


def read_token(path: Path) -> str:
    """The token in a file; `CallFailed` when there is none or others can read it."""
    from server.token import TokenError, read

    try:
        return read(path)
    except TokenError as error:
        raise CallFailed(CallFailure(status="INVALID_ARGUMENT", message=str(error))) from error


def _local(settings: Settings) -> tuple[str, str]:
    """The local server's address, and a remark about how it was found."""
    from server import portfile

    location = portfile.read(settings.runtime_dir)
    if location is None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        remark = "No server has announced itself on this machine."
        return reachable(f"{host}:{settings.port}"), remark
    address = reachable(location.address)
    import psutil

    if not psutil.pid_exists(location.pid):
        return address, f"The server that ran there (process {location.pid}) is gone."
    if location.tls:
        return address, "It uses TLS: name the authority of its certificate with --tls-ca."
    return address, ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CallFailed(
            CallFailure(
                status="INVALID_ARGUMENT",
                message=f"{path} cannot be read: {error.strerror or error}",
            )
        ) from error
