"""Watch one session that was started elsewhere."""

from __future__ import annotations

from deviceops.v1 import processing_pb2, session_pb2
from server.cli.client import Client
from server.cli.endings import conclude
from server.cli.exits import Exit
from server.cli.following import Follower, Manner
from server.cli.live import DEFAULT_PREVIEW_STEPS, draws_previews, terminal
from server.cli.narration import sentence
from server.cli.views import chosen


def run(client: Client, session_id: str, first: int, *, as_json: bool) -> Exit:
    """Show the session's events from `first` on, to its end; the exit code.

    Raises:
        CallFailed: There is no such session, or the connection was lost for good.
    """
    previews = not as_json and draws_previews(terminal())
    delivery = session_pb2.DeliveryOptions(omit_image_data=True)
    if previews:
        delivery.previews.every_steps = DEFAULT_PREVIEW_STEPS
    request = processing_pb2.WatchSessionRequest(
        session_id=session_id, from_sequence=first, delivery=delivery
    )
    with chosen(as_json=as_json) as view:
        follower = Follower(
            client,
            handle=view.event,
            note=view.note,
            manner=Manner(cancel_on_interrupt=False, reattach=True, delivery=delivery),
        )
        ending = follower.follow(lambda: client.processing.WatchSession(request))
    outcome = (
        f"Left session {session_id}; it goes on."
        if ending.terminal is None
        else f"Session {session_id}: {sentence(ending.terminal)}"
    )
    return conclude(view, ending, [outcome], {"session_id": session_id}, as_json=as_json)
