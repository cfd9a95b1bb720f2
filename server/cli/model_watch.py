"""What happens to models, live: a line for each thing."""

from __future__ import annotations

from deviceops.v1 import model_pb2
from server.cli.client import Client
from server.cli.endless import until_interrupt
from server.cli.views import message_facts, write_json
from server.cli.wording import enum_word, moment, printable


def run(client: Client, request: model_pb2.WatchModelsRequest, *, as_json: bool) -> None:
    """Tell until Ctrl-C.

    Raises:
        CallFailed: There is no such model, the connection was lost, or the server ends.
    """
    call = client.models.WatchModels(request)
    with until_interrupt(client, call):
        for event in call:
            if as_json:
                write_json(message_facts(event))
            elif event.HasField("model"):  # heartbeats and the end of the state have none
                print("\t".join(map(printable, _line(event))), flush=True)


def _line(event: model_pb2.WatchModelsResponse) -> tuple[str, ...]:
    kind = enum_word(model_pb2.ModelEventKind, event.kind, "MODEL_EVENT_KIND_")
    cause = ""
    if event.cause:
        cause = enum_word(model_pb2.EvictionCause, event.cause, "EVICTION_CAUSE_")
    return moment(event.event_time), event.model.model_id, kind, event.device_id, cause
