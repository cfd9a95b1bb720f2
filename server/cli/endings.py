"""The close of every command that followed a session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from server.cli.exits import Exit
from server.cli.failures import as_json as failure_json
from server.cli.following import Ending
from server.cli.reporting import show
from server.cli.views import View


def conclude(
    view: View,
    ending: Ending,
    lines: Iterable[str],
    facts: Mapping[str, object] | None = None,
    *,
    as_json: bool,
) -> Exit:
    """Show what the session came to, and its failure; returns the exit code.

    Args:
        view: Where the session was shown.
        ending: How following it ended.
        lines: The outcome for people.
        facts: More of the outcome for programs.
        as_json: Whether `view` writes for programs.
    """
    outcome: dict[str, object] = {
        "state": ending.state,
        "session_id": ending.session_id,
        **(facts or {}),
        "exit_code": int(ending.exit),
    }
    if ending.failure is not None:
        outcome["error"] = failure_json(ending.failure)
    view.summary(outcome, lines)
    if ending.failure is not None and not as_json:
        show(ending.failure, json_wanted=False)
    return ending.exit
