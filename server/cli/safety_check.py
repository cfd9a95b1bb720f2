"""Have pictures and prompts judged, and show what is said of each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

from deviceops.v1 import finishing_pb2, safety_pb2
from server.cli.client import Client
from server.cli.endings import conclude
from server.cli.exits import Exit
from server.cli.following import Follower, Manner
from server.cli.generation import picture_of
from server.cli.views import chosen, message_facts
from server.cli.wording import enum_word, printable


def check(
    client: Client,
    pictures: Sequence[str],
    prompts: Sequence[str],
    policy_id: str,
    version: int,
    *,
    as_json: bool,
) -> Exit:
    """Ask for verdicts and show them, in the order of the pictures and prompts.

    Raises:
        UnusableOptions: A picture cannot be read.
        CallFailed: The server refused, or the connection was lost.
    """
    request = safety_pb2.CheckSafetyRequest(
        images=map(picture_of(client), pictures),
        prompts=prompts,
        policy_id=policy_id,
        policy_version=version,
    )
    request.options.request_id = str(uuid.uuid4())
    with chosen(as_json=as_json) as view:
        follower = Follower(client, handle=view.event, note=view.note, manner=Manner())
        ending = follower.follow(lambda: client.postprocessing.CheckSafety(request))
    facts: dict[str, object] = {}
    lines: list[str] = []
    if ending.terminal is not None and ending.state == "completed":
        verdicts = ending.terminal.completed.safety.verdicts
        facts["verdicts"] = [message_facts(each) for each in verdicts]
        names = [*pictures, *(f"prompt {k}" for k in range(1, len(prompts) + 1))]
        for name, verdict in zip(names, verdicts, strict=True):
            lines += _told(name, verdict)
    return conclude(view, ending, lines, facts, as_json=as_json)


def _told(name: str, verdict: finishing_pb2.SafetyVerdict) -> Iterator[str]:
    action = enum_word(finishing_pb2.SafetyAction, verdict.action, "SAFETY_ACTION_")
    scores = ", ".join(map(_score, verdict.scores)) or "no scores"
    policy = f" by {verdict.policy_id} version {verdict.policy_version}"
    yield printable(
        f"{name}: {action}{policy if verdict.policy_id else ' (no policy)'}; {scores}"
    )
    if verdict.advice:
        yield printable(f"  {verdict.advice}")


def _score(score: finishing_pb2.SafetyScore) -> str:
    flagged = f" (flagged from {score.threshold:g})" if score.flagged else ""
    return f"{score.category} {score.score:.3f}{flagged}"
