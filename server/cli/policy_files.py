"""Safety policies in files, in the contract's JSON form."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import json_format

from deviceops.v1 import safety_pb2
from server.cli.choices import UnusableOptions


def read_policy(path: Path) -> safety_pb2.SafetyPolicy:
    """The policy in a file; what only the server says of one is left out, so that what
    `policies show --json` wrote can be stored again.

    Raises:
        UnusableOptions: It cannot be read, or is none.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UnusableOptions(f"{path} cannot be read: {why}") from error
    try:
        made = json_format.Parse(text, safety_pb2.SafetyPolicy())
    except json_format.ParseError as error:
        raise UnusableOptions(f"{path} is no policy: {error}") from error
    for field in ("version", "owner", "create_time"):
        made.ClearField(field)
    return made
