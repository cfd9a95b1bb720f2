"""All sessions live: a line for each that comes, changes or ends."""

from __future__ import annotations

import sys
import time

from deviceops.v1 import processing_pb2
from server.cli.client import Client
from server.cli.endless import until_interrupt
from server.cli.failures import CallFailed
from server.cli.output import plain
from server.cli.patience import Patience, is_lost
from server.cli.session_rows import change_row
from server.cli.views import message_facts, write_json

_SNAPSHOT_END = processing_pb2.SESSION_CHANGE_KIND_SNAPSHOT_END


def run(
    client: Client, wanted: processing_pb2.SessionFilter, revision: int, *, as_json: bool
) -> None:
    """Show the sessions that match and what becomes of them, until Ctrl-C.

    A lost connection is made again and goes on after the last change seen; where the server
    keeps those changes no longer, the state of now comes again.

    Args:
        client: The server.
        wanted: Which sessions.
        revision: Only changes after this one; 0 shows the state of now first.
        as_json: One object a line instead of columns.

    Raises:
        CallFailed: The call was refused, the server ends, or the connection was lost for good.
    """
    watch = _Watch(client, wanted, revision, as_json=as_json)
    patience = Patience()
    try:
        while True:
            try:
                watch.follow(patience)
                return
            except CallFailed as error:
                delay = patience.next_delay()
                if delay is None or not watch.goes_on_after(error):
                    raise
                print(f"Watching again in {delay:g} s.", file=sys.stderr, flush=True)
                time.sleep(delay)
    except KeyboardInterrupt:
        return


class _Watch:
    """One watch over as many calls as it takes."""

    def __init__(
        self,
        client: Client,
        wanted: processing_pb2.SessionFilter,
        revision: int,
        *,
        as_json: bool,
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._revision = revision
        self._as_json = as_json

    def follow(self, patience: Patience) -> None:
        """Show what comes until Ctrl-C.

        Raises:
            CallFailed: The call failed.
        """
        request = processing_pb2.WatchSessionsRequest(
            filter=self._wanted, from_revision=self._revision
        )
        call = self._client.processing.WatchSessions(request)
        whole = self._revision > 0  # the state of now has been seen to its end
        with until_interrupt(self._client, call):
            for change in call:
                patience.restore()
                whole = whole or change.kind == _SNAPSHOT_END
                if whole:
                    self._revision = max(self._revision, change.revision)
                self._show(change)

    def goes_on_after(self, error: CallFailed) -> bool:
        """Whether another call may do better; prepares it."""
        if error.failure.reason == "EVENTS_EXPIRED" and self._revision:
            self._revision = 0
            return True
        return is_lost(error.failure)

    def _show(self, change: processing_pb2.WatchSessionsResponse) -> None:
        if self._as_json:
            write_json(message_facts(change))
        elif change.HasField("session"):  # heartbeats and the end of the state have none
            plain(change_row(change))
