"""How far a workflow is, in a terminal and in lines."""

from __future__ import annotations

from deviceops.v1 import event_pb2, session_pb2
from server.cli.narration import Progress, sentence


def accepted() -> event_pb2.SessionEvent:
    made = event_pb2.SessionAccepted(kind=session_pb2.SESSION_KIND_WORKFLOW)
    return event_pb2.SessionEvent(session_id="run", accepted=made)


def test_the_bar_counts_steps_of_the_workflow() -> None:
    """Steps of its pictures differ from one to the next, and are said in words."""
    progress = Progress()
    progress.take(accepted())
    drawn = event_pb2.StepFinished(step=3, steps=25)
    progress.take(event_pb2.SessionEvent(item_id="draw", step_finished=drawn))
    assert (progress.activity, progress.done) == ("draw: step 3/25", 0)
    ended = event_pb2.ItemFinished(item_id="draw", done_count=1, total_count=4)
    progress.take(event_pb2.SessionEvent(item_id="draw", item_finished=ended))
    assert (progress.done, progress.total) == (1, 4)
    assert progress.activity == "Step 1 of 4 finished"


def test_a_workflow_is_on_no_device() -> None:
    assert sentence(accepted()) == "Session run: workflow"
