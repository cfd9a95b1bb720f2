"""Run a workflow: send it, follow it, keep the pictures of its result steps."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deviceops.v1 import event_pb2, session_pb2, workflow_pb2
from server.cli.client import Client
from server.cli.endings import conclude
from server.cli.exits import Exit
from server.cli.failures import CallFailed
from server.cli.following import Ending, Follower, Manner
from server.cli.generation import DEFAULT_OUTPUT, PictureKeeper, picture_of, repeatable
from server.cli.narration import ends_item
from server.cli.views import chosen, message_facts, picture_facts
from server.cli.wording import duration, printable, seconds_of
from server.cli.workflow_files import names_file, read_workflow
from server.cli.workflow_values import arguments


@dataclass(frozen=True)
class RunOptions:
    """How a workflow is run, as a person says it."""

    values: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    device: str = ""
    tags: tuple[str, ...] = ()
    detach: bool = False
    request_id: str = ""


def run(
    client: Client, name: str, options: RunOptions, output: Path | None, *, as_json: bool
) -> Exit:
    """Run it, save, and show both; the exit code.

    Args:
        client: Where it runs.
        name: Of a stored workflow, or of a file that holds one.
        options: What it is given, and how it runs.
        output: Folder, or file; the folder `out` if None.
        as_json: Whether programs read it.

    Raises:
        UnusableOptions: The file holds no workflow, or an option is no argument of it.
        CallFailed: The server refused, the connection was lost, or a picture arrived
            damaged or could not be written.
    """
    request = run_request(client, name, options)
    with chosen(as_json=as_json) as view:
        keeper = StepKeeper(PictureKeeper(output or DEFAULT_OUTPUT, view))
        follower = Follower(
            client,
            handle=keeper.take,
            note=view.note,
            manner=Manner(reattach=options.detach, delivery=request.delivery),
        )
        try:
            ending = follower.follow(lambda: client.processing.RunWorkflow(request))
        except CallFailed as error:
            failure = repeatable(error.failure, request.options.request_id)
            raise CallFailed(failure) from error
    facts = {
        "request_id": request.options.request_id,
        "pictures": [picture_facts(each) for each in keeper.pictures.saved],
        "steps": [message_facts(each) for each in keeper.ended],
    }
    return conclude(view, ending, _lines(ending, keeper), facts, as_json=as_json)


def run_request(
    client: Client, name: str, options: RunOptions
) -> workflow_pb2.RunWorkflowRequest:
    """The run as the server takes it; see `run`."""
    request = workflow_pb2.RunWorkflowRequest()
    if names_file(name):
        workflow = read_workflow(Path(name))
        request.workflow.CopyFrom(workflow)
    else:
        asked = workflow_pb2.GetWorkflowRequest(workflow_id=name)
        workflow = client.ask(client.processing.GetWorkflow, asked).workflow
        request.workflow_id = name
    given = arguments(workflow, options.values, options.pictures, picture_of(client))
    for parameter, value in given.items():
        request.arguments[parameter].CopyFrom(value)
    request.options.request_id = options.request_id or str(uuid.uuid4())
    request.options.tags.extend(options.tags)
    if options.detach:
        request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    if options.device:
        request.placement.device_id = options.device
    return request


class StepKeeper:
    """Keeps pictures as a `PictureKeeper` does, and what became of the steps."""

    def __init__(self, pictures: PictureKeeper) -> None:
        self.pictures = pictures
        self.ended: list[event_pb2.ItemFinished] = []

    def take(self, event: event_pb2.SessionEvent) -> None:
        """As of `PictureKeeper`."""
        self.pictures.take(event)
        if ends_item(event) and not event.HasField("run_index"):
            self.ended.append(event.item_finished)


def _lines(ending: Ending, keeper: StepKeeper) -> Iterable[str]:
    """What the run came to, for people; a failure is shown by itself."""
    if ending.terminal is None:
        return ["Left before the session's end."]
    saved = len(keeper.pictures.saved)
    if ending.state == "cancelled":
        why = printable(ending.terminal.cancelled.reason_text)
        said = f" ({why})" if why else ""
        return [f"Cancelled session {ending.session_id}{said}; pictures saved: {saved}."]
    if ending.state != "completed":
        return []
    total = duration(seconds_of(ending.terminal.completed.timings.total))
    steps, pictures = len(keeper.ended), "picture" if saved == 1 else "pictures"
    noun = "step" if steps == 1 else "steps"
    return [f"{steps} {noun}, {saved} {pictures} in {total}"]
