"""Keys and certificates as C2PA wants them: read, checked, and made.

`cryptography` is imported when it is needed: it is part of an extra.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from domains.provenance.errors import LibraryMissing, SignerRefused

_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\n?"
)
_ORGANIZATION = "device-operations"
# A signature has no time but the signer's own, so it is worth nothing once this is over.
_VALID = timedelta(days=20 * 365)
_RSA_LEAST_BITS = 2048


@dataclass(frozen=True)
class Credentials:
    """What signs: PEM of a private key and of certificates, the signer's first. `algorithm` is
    C2PA's name of it."""

    key: bytes
    certificates: bytes
    algorithm: str


def certificates_in(pem: bytes) -> list[str]:
    """Each certificate in a PEM file."""
    return [
        each.strip() + "\n" for each in _CERTIFICATE.findall(pem.decode("ascii", "replace"))
    ]


def credentials_in(key: bytes, certificates: bytes) -> Credentials:
    """A private key and its certificates, as they are in files.

    Raises:
        LibraryMissing: The extra is not installed.
        SignerRefused: They cannot be read, do not belong together, or are not valid now.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise LibraryMissing from None
    try:
        private = serialization.load_pem_private_key(key, None)
    except TypeError:
        raise SignerRefused(
            "provenance_key: the key is encrypted; name one without a pass phrase."
        ) from None
    except Exception as error:
        raise SignerRefused(f"provenance_key: no private key in PEM: {error}.") from None
    chain = certificates_in(certificates)
    if not chain:
        raise SignerRefused("provenance_certificate: no certificate in PEM.")
    try:
        signer = x509.load_pem_x509_certificate(chain[0].encode())
        fits = signer.public_key() == private.public_key()
    except ValueError as error:
        raise SignerRefused(
            f"provenance_certificate: no usable certificate: {error}."
        ) from None
    if not fits:
        raise SignerRefused(
            "provenance_key: does not belong to the first certificate of"
            " provenance_certificate."
        )
    now = datetime.now(UTC)
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        raise SignerRefused(
            "provenance_certificate: the certificate is valid from "
            f"{signer.not_valid_before_utc:%Y-%m-%d} to {signer.not_valid_after_utc:%Y-%m-%d}."
        )
    plain = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Credentials(plain, "".join(chain).encode(), _algorithm(private))


def _algorithm(key: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    curves = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in curves:
        return curves[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ED25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _RSA_LEAST_BITS:
        return "PS256"
    raise SignerRefused(
        "provenance_key: C2PA knows keys on P-256, P-384 and P-521, Ed25519, and RSA of at"
        f" least {_RSA_LEAST_BITS} bits."
    )


def new_signer() -> bytes:
    """PEM of a new private key, its certificate, and that of the authority that signed it.

    C2PA takes no certificate that signed itself (C2PA 2.2, section 14.5). The authority's key
    is used once and forgotten.

    Raises:
        LibraryMissing: The extra is not installed.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID
    except ImportError:
        raise LibraryMissing from None
    begin = datetime.now(UTC) - timedelta(days=1)  # for readers whose clock is behind

    def name(common: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, _ORGANIZATION),
                x509.NameAttribute(x509.NameOID.COMMON_NAME, common),
            ]
        )

    def certificate(common: str, key: Any, *, authority: bool) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=not authority,
            key_cert_sign=authority,
            crl_sign=authority,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        built = (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(name("device-operations authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + _VALID)
            .add_extension(x509.BasicConstraints(authority, 0 if authority else None), True)
            .add_extension(usage, True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if not authority:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key())
            use = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            built = built.add_extension(issuer, False).add_extension(use, False)
        return built.sign(root, hashes.SHA256())

    root = ec.generate_private_key(ec.SECP256R1())
    own = ec.generate_private_key(ec.SECP256R1())
    private = own.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain = (
        certificate("device-operations signer", own, authority=False),
        certificate("device-operations authority", root, authority=True),
    )
    pem = (each.public_bytes(serialization.Encoding.PEM) for each in chain)
    return b"".join((private, *pem))
