"""What lies beside an artifact's file and says what the file itself cannot: its sessions."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from domains.codec import Malformed, Name, Text, Value, decode_json, encode_json
from domains.regular_files import TooLong, read_regular
from domains.set_aside import set_aside
from domains.whole_files import whole_file

MOST_SESSIONS = 1000
"""Sessions remembered of one artifact: the first, and the newest."""
_LONGEST_BYTES = 1 << 20


class _Content(Value, frozen=True):
    session_ids: Annotated[tuple[Name, ...], Meta(max_length=MOST_SESSIONS)] = ()
    session_id: Text = ""
    """The only session, in the first form of this file; empty in those written now."""


class Sidecar:
    """The sidecar at `path`, whatever lies there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sessions(self) -> tuple[str, ...]:
        """The sessions that made the file; none when that cannot be read."""
        try:
            content = decode_json(_Content, read_regular(self.path, _LONGEST_BYTES))
        except (OSError, TooLong, Malformed):
            return ()
        return content.session_ids or ((content.session_id,) if content.session_id else ())

    def write(self, session_ids: tuple[str, ...]) -> None:
        """Write it, whole or not at all; of very many sessions, the second are forgotten.

        Raises:
            OSError: It cannot be written.
        """
        most = MOST_SESSIONS - 1
        kept = session_ids[:1] + session_ids[1:][-most:]
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(self.path.lstat().st_mode):
                set_aside(self.path, "it is no file")
        with whole_file(self.path) as file:
            file.write(encode_json(_Content(kept)))
