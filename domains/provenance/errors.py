"""Errors of provenance."""

from __future__ import annotations

import logging

from domains.errors import FieldViolation, InvalidArgument, Reason, Unavailable, Unimplemented

INSTALL = "pip install 'device-operations[provenance]'"

_log = logging.getLogger("deviceops.provenance")


class SignerRefused(Exception):
    """Nothing can be signed with the operator's settings; the text is for the operator alone,
    says why and what to do."""


class LibraryMissing(SignerRefused):
    """What signs is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "Manifests need a library that is not installed where the server runs: "
            f"{INSTALL}, or switch provenance_manifest off."
        )


class InvalidProvenance(InvalidArgument):
    """A picture cannot bear the marks that are asked for here."""

    @classmethod
    def too_small(cls, field: str, edge: int) -> InvalidProvenance:
        """The picture is too small for a mark: `field` asks for one."""
        rule = (
            f"Needs a picture of at least {edge} pixels along each edge; draw it larger, or "
            "without the mark."
        )
        return cls.of(FieldViolation(field, Reason.DIMENSIONS_INVALID, rule))

    @classmethod
    def drowned(cls, field: str) -> InvalidProvenance:
        """The picture is noise so strong that no mark is found in it again."""
        rule = (
            "The picture is so small and so full of noise that the mark would not be found "
            "in it again; draw it larger, or without the mark."
        )
        return cls.of(FieldViolation(field, Reason.DIMENSIONS_INVALID, rule))


class SigningMissing(Unimplemented):
    """Manifests cannot be written here: `field` asks for one."""

    def __init__(self, field: str) -> None:
        super().__init__(
            f"{field}: needs a library that is not installed where the server runs: {INSTALL}; "
            "leave it out, or have it installed.",
            metadata={"field": field},
        )


class SigningUnavailable(Unavailable):
    """What this server signs and marks with cannot be used."""

    def __init__(self) -> None:
        super().__init__(
            "The server's keys for signing and marking pictures cannot be used now; its log "
            "says why. Ask for pictures without marks, or have the server's operator look.",
            reason=Reason.STORAGE_UNAVAILABLE,
        )


class ReaderMissing(Unimplemented):
    """Manifests cannot be read here."""

    def __init__(self) -> None:
        super().__init__(
            "Reading marks needs a library that is not installed where the server runs: "
            f"{INSTALL}."
        )


def unavailable(error: Exception) -> SigningUnavailable:
    """What a client sees of an error that is for the operator, who finds it in the log."""
    _log.error("pictures cannot be signed or marked: %s", error)
    return SigningUnavailable()
