"""What lies beside an artifact's file and says what the file itself cannot: whose it is."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from domains.artifact.types import MOST_OWNERS, Holding, Holdings, SessionIds
from domains.clients import DEFAULT_CLIENT
from domains.codec import Malformed, Name, Text, Value, decode_json, encode_json
from domains.regular_files import TooLong, read_regular
from domains.set_aside import set_aside
from domains.whole_files import whole_file

_LONGEST_BYTES = 1 << 26


class _Content(Value, frozen=True):
    holdings: Annotated[Mapping[Name, Holding], Meta(max_length=MOST_OWNERS)] = msgspec.field(
        default_factory=dict
    )
    session_ids: SessionIds = ()
    session_id: Text = ""
    """Earlier forms of this file have sessions alone, or one; empty in those written now."""


class Sidecar:
    """The sidecar at `path`, whatever lies there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def holdings(self) -> Holdings:
        """Whose the file is; nobody's when there is no sidecar or it cannot be read."""
        try:
            content = decode_json(_Content, read_regular(self.path, _LONGEST_BYTES))
        except (OSError, TooLong, Malformed):
            return {}
        earlier = content.session_ids or ((content.session_id,) if content.session_id else ())
        return content.holdings or {DEFAULT_CLIENT: Holding(earlier)}

    def write(self, holdings: Holdings, *, named: bool = True) -> None:
        """Write it, whole or not at all; `named` as in `whole_file`.

        Raises:
            OSError: It cannot be written.
        """
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(self.path.lstat().st_mode):
                set_aside(self.path, "it is no file")
        with whole_file(self.path, named=named) as file:
            file.write(encode_json(_Content(holdings)))
