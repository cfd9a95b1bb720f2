"""Values of provenance: who made a picture, what its marks say, and whom this server trusts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from msgspec import Meta

from domains.codec import Value

Pem = Annotated[str, Meta(max_length=4_194_304)]
MarkKey = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
"""16 bytes in hexadecimal."""
FOUND = 0.999999
"""Confidence from which a mark counts as found: a picture in a million has it by chance."""
LEAST_EDGE = 96
"""Of a picture that can bear the invisible mark, in pixels."""
MarkKeys = Annotated[tuple[MarkKey, ...], Meta(max_length=16)]


@dataclass(frozen=True)
class Made:
    """What a manifest says of how a picture was made; empty where that does not apply. One
    that is not `drawn` came with a request, and was changed."""

    session_id: str = ""
    model_id: str = ""
    drawn: bool = True


class SignatureState(Enum):
    """What a signature says; NONE where there is none."""

    NONE = "none"
    TRUSTED = "trusted"
    UNKNOWN_SIGNER = "unknown-signer"
    BROKEN = "broken"


class Trust(Value, frozen=True):
    """Whom this server trusts: signers whose certificate one of `anchors` signed, which are
    certificates in PEM; empty: nobody."""

    anchors: Pem = ""
