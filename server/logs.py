"""Logging: one line per event on standard error, JSON unless a person is watching.

Everything ends up in the same form, our own structured events as well as what libraries
write through the standard `logging` module. Call ids are bound once per call and stand
on every line written while it runs.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from domains.at_work import at_work
from server.log_writer import LogWriter

if TYPE_CHECKING:
    from domains.safety import SafetyVerdict
    from server.config import Settings

_SECRET = frozenset({"prompt", "negative_prompt", "token", "authorization"})
_LONGEST_ID = 64


def configure(settings: Settings, stream: TextIO | None = None) -> LogWriter:
    """Set up logging for this process; call it once, before the server is built.

    Returns:
        What writes the lines. It closes itself when the interpreter ends.
    """
    output = stream or sys.stderr
    console = settings.log_format == "console"
    if settings.log_format == "auto":
        console = output.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _of_session,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = LogWriter(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_console(output) if console else _json()),
            ],
        )
    )
    root = logging.getLogger()
    before = [old for old in root.handlers if isinstance(old, LogWriter)]
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for old in before:
        old.close()
    return handler


def bind_ids(message: Any) -> None:
    """Put the request, session and batch ids a message carries on this call's lines."""
    ids = {name: _id(message, name) for name in ("request_id", "session_id", "batch_id")}
    ids["request_id"] = ids["request_id"] or _id(
        getattr(message, "options", None), "request_id"
    )
    ids["session_id"] = ids["session_id"] or _id(getattr(message, "event", None), "session_id")
    structlog.contextvars.bind_contextvars(**{name: id_ for name, id_ in ids.items() if id_})


def _of_session(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """What is written while a session has its turn says which, and whose it is."""
    work = at_work()
    if work is not None:
        event_dict.setdefault("session_id", work.session_id)
        event_dict.setdefault("client", work.owner)
    return event_dict


def safety_decided(session_id: str, verdict: SafetyVerdict) -> None:
    """The record of what a safety policy decided: what it went by, and never what it judged."""
    structlog.get_logger("deviceops.safety").info(
        "safety.decided",
        session_id=session_id,
        policy=verdict.policy_id,
        policy_version=verdict.policy_version,
        subject=verdict.subject.value if verdict.subject else "scores",
        action=verdict.action.value,
        classifier_failed=verdict.classifier_failed,
        scores={each.category: round(each.score, 4) for each in verdict.scores},
        flagged=[each.category for each in verdict.scores if each.flagged],
        classifiers=sorted({each.classifier for each in verdict.scores if each.classifier}),
    )


def _id(message: Any, name: str) -> str:
    value = getattr(message, name, "")
    return value[:_LONGEST_ID] if isinstance(value, str) and value.isprintable() else ""


def _without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A second net: nobody logs these on purpose."""
    for name in _SECRET & event.keys():
        event[name] = "[not logged]"
    return event


def _json() -> Sequence[Processor]:
    return (
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    )


def _console(output: TextIO) -> Sequence[Processor]:
    # The plain formatter: the one that draws boxes prints local variables, prompts too.
    return (
        structlog.dev.ConsoleRenderer(
            colors=output.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    )
