"""What an inspector can be asked to read of a picture that nobody vouches for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from domains.codec import Moment, Value
from domains.provenance.types import MarkKeys, SignatureState, Trust
from domains.session.jobs import Job

MOST_PARAMETERS = 65_536
Said = Annotated[str, Meta(max_length=1024)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Manifest(Value, frozen=True):
    """What a picture's manifest says; empty and None where it does not. The `session_id` is
    what made the picture where the signer says so: worth as much as the signer."""

    state: SignatureState = SignatureState.NONE
    signer: Said = ""
    sign_time: Moment | None = None
    generator: Said = ""
    session_id: Said = ""


class VerifyReport(Value, frozen=True):
    """All marks of a picture. `watermark` is how sure its mark is, from 0 to 1."""

    manifest: Manifest
    watermark: Share
    parameters: Annotated[str, Meta(max_length=MOST_PARAMETERS)]


class VerifyJob(Job[VerifyReport], frozen=True):
    """Read the marks of the picture at `source`, which ones of `keys` may have marked."""

    source: Path
    trust: Trust
    keys: MarkKeys
