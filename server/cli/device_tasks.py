"""Work on a device as a session: its progress, its report, its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from google.protobuf.message import Message

from deviceops.v1 import device_pb2, model_pb2
from server.cli.client import Client
from server.cli.endings import conclude
from server.cli.exits import Exit
from server.cli.following import Ending, EventCall, Follower, Manner
from server.cli.narration import sentence
from server.cli.views import chosen, message_facts
from server.cli.wording import byte_figure, duration, seconds_of

R = TypeVar("R", bound=Message)


def load(client: Client, request: model_pb2.LoadModelRequest, *, as_json: bool) -> Exit:
    """Put a model on a device and show what it takes there; the exit code."""
    return _run(
        client,
        lambda: client.models.LoadModel(request),
        model_pb2.LoadedModel(),
        _place,
        as_json=as_json,
    )


def optimize(
    client: Client, request: device_pb2.OptimizeDeviceRequest, *, as_json: bool
) -> Exit:
    """Apply a profile and show what it changed; the exit code."""
    return _run(
        client,
        lambda: client.devices.OptimizeDevice(request),
        device_pb2.OptimizationReport(),
        _effect,
        as_json=as_json,
    )


def restart(client: Client, request: device_pb2.RestartWorkerRequest, *, as_json: bool) -> Exit:
    """Replace a worker; the exit code."""
    return _run(
        client, lambda: client.devices.RestartWorker(request), None, None, as_json=as_json
    )


def _run(
    client: Client,
    start: Callable[[], Any],
    report: R | None,
    effect: Callable[[R], list[str]] | None,
    *,
    as_json: bool,
) -> Exit:
    with chosen(as_json=as_json) as view:
        follower = Follower(
            client, handle=view.event, note=view.note, manner=Manner(images=False)
        )
        ending = follower.follow(lambda: _EventsOnly(start()))
    facts: dict[str, object] = {}
    lines = [_outcome(ending)]
    if report is not None and effect is not None and _unpacked(ending, report):
        facts["report"] = message_facts(report)
        lines += effect(report)
    return conclude(view, ending, lines, facts, as_json=as_json)


def _outcome(ending: Ending) -> str:
    if ending.terminal is None:
        return "Left before the session's end."
    return f"Session {ending.session_id}: {sentence(ending.terminal)}"


def _unpacked(ending: Ending, report: Message) -> bool:
    """Fill `report` from the session's last entry; whether there was one."""
    if ending.terminal is None or ending.state != "completed":
        return False
    return bool(ending.terminal.completed.report.Unpack(report))


def _place(loaded: model_pb2.LoadedModel) -> list[str]:
    already = "" if loaded.HasField("load_time") else ", and was already"
    return [f"  on {loaded.device_id}{already}: {byte_figure(loaded.size)}"]


def _effect(report: device_pb2.OptimizationReport) -> list[str]:
    changes = [f"  {c.setting}: {c.before} -> {c.after}" for c in report.changes]
    before, after = seconds_of(report.step_before), seconds_of(report.step_after)
    return [
        *(changes or ["  nothing changed: it was so already"]),
        f"  one step: {duration(before)} -> {duration(after)}",
        f"  peak memory: {byte_figure(report.peak_memory_before)}"
        f" -> {byte_figure(report.peak_memory_after)}",
    ]


class _EventsOnly:
    """A call whose messages are events or a report, as one of events alone.

    The report comes again with the session's last event.
    """

    def __init__(self, call: EventCall) -> None:
        self._call = call

    def __iter__(self) -> Iterator[Any]:
        return (answer for answer in self._call if answer.HasField("event"))

    def cancel(self) -> bool:
        return self._call.cancel()
