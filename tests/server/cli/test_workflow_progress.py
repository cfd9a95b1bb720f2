"""How far a workflow is, in a terminal and in lines."""

from __future__ import annotations

from pathlib import Path

from deviceops.v1 import event_pb2, session_pb2
from server.cli.generation import PictureKeeper
from server.cli.narration import Progress, sentence
from server.cli.views import JsonView
from server.cli.workflow_run import StepKeeper


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


def test_tiles_of_a_step_are_no_steps() -> None:
    progress = Progress()
    progress.take(accepted())
    tile = event_pb2.ItemFinished(item_id="tile", done_count=5, total_count=40)
    progress.take(event_pb2.SessionEvent(item_id="enlarge", item_finished=tile))

    assert progress.activity == "enlarge: tile 5 of 40"
    assert progress.total == 0

    keeper = StepKeeper(PictureKeeper(Path("out"), JsonView()))
    for name in ("tile", "enlarge"):
        ended = event_pb2.ItemFinished(item_id=name, done_count=1, total_count=4)
        keeper.take(event_pb2.SessionEvent(item_id="enlarge", item_finished=ended))
    assert [each.item_id for each in keeper.ended] == ["enlarge"]


def test_a_workflow_is_on_no_device() -> None:
    assert sentence(accepted()) == "Session run: workflow"
