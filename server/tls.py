"""TLS for the port: certificates from files, renewed without a restart."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog

from server.config import Settings

_log = structlog.get_logger("deviceops.tls")


class CertificateError(Exception):
    """The certificate files are unreadable or do not belong together. Exit code 2."""


def server_credentials(settings: Settings) -> grpc.ServerCredentials:
    """Credentials that follow the files: a renewed pair is used from the next handshake.

    With `tls_client_ca`, clients without a certificate that it signed are turned away.

    Raises:
        CertificateError: The files cannot be used.
    """
    files = CertificateFiles(settings)
    return grpc.dynamic_ssl_server_credentials(
        files.load(),
        files.if_renewed,  # type: ignore[arg-type]  # None is documented, the stub lacks it
        require_client_authentication=bool(files.client_ca),
    )


class CertificateFiles:
    """The certificate, its key and the clients' authority, as they are on disk."""

    def __init__(self, settings: Settings) -> None:
        assert settings.tls_certificate is not None
        assert settings.tls_key is not None
        self.certificate = settings.tls_certificate
        self.key = settings.tls_key
        self.client_ca = settings.tls_client_ca
        self._seen = self._state()

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Read and check them. Raises CertificateError."""
        for path in self._paths:
            _refuse_unreadable(path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

        def pass_phrase() -> str:
            # OpenSSL would ask for it on the terminal, which a service does not have.
            raise CertificateError(
                f"{self.key.name}: the key is encrypted; name one without a pass phrase in"
                " tls_key (openssl pkey -in KEY -out PLAIN_KEY)."
            )

        _checked(
            self.certificate,
            lambda: context.load_cert_chain(self.certificate, self.key, pass_phrase),
        )
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        if self.client_ca is None:
            return grpc.ssl_server_certificate_configuration([pair])
        authority = self.client_ca
        _checked(authority, lambda: context.load_verify_locations(authority))
        return grpc.ssl_server_certificate_configuration([pair], authority.read_bytes())

    def if_renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked before every handshake; None keeps what is in use.

        A pair caught half-written does not fit together: it is left for the next time.
        """
        try:
            state = self._state()
            if state == self._seen:
                return None
            configuration = self.load()
        except (OSError, CertificateError) as error:
            _log.warning("renewed certificate not used", why=str(error))
            return None
        self._seen = state
        _log.info("renewed certificate in use", certificate=self.certificate.name)
        return configuration

    @property
    def _paths(self) -> tuple[Path, ...]:
        return tuple(filter(None, (self.certificate, self.key, self.client_ca)))

    def _state(self) -> tuple[tuple[int, int], ...]:
        statuses = [path.stat() for path in self._paths]
        return tuple((status.st_mtime_ns, status.st_size) for status in statuses)


def _refuse_unreadable(path: Path) -> None:
    """What reads several at once does not say which it cannot."""
    try:
        path.open("rb").close()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise CertificateError(f"{path.name}: cannot be read: {why}.") from None


def _checked(path: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(f"{path.name}: no usable certificate: {error}.") from None
