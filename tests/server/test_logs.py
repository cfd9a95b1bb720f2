"""What stands in the log: one JSON object per line, and no secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from deviceops.v1 import inference_pb2, processing_pb2
from domains.at_work import AtWork, working
from server import logs
from server.config import Settings


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    structlog.contextvars.clear_contextvars()
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def written(settings: Settings, write: Any) -> str:
    stream = io.StringIO()
    writer = logs.configure(settings, stream)
    write()
    writer.close()
    return stream.getvalue()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_structured_and_library_lines_have_one_form() -> None:
    def write() -> None:
        structlog.contextvars.bind_contextvars(session_id="s1")
        structlog.get_logger("ours").info("event", count=3)
        logging.getLogger("theirs").warning("event %d", 4)

    ours, theirs = lines(written(Settings(), write))
    assert (ours["event"], ours["count"], ours["level"]) == ("event", 3, "info")
    assert (theirs["event"], theirs["level"]) == ("event 4", "warning")
    for line, logger in ((ours, "ours"), (theirs, "theirs")):
        assert line["session_id"] == "s1"
        assert line["logger"] == logger
        assert line["timestamp"].endswith("Z")


def test_what_is_written_in_a_session_s_turn_says_which_it_is() -> None:
    def write() -> None:
        with working(AtWork("s1", "anna")):
            structlog.get_logger("ours").error("incident")
            logging.getLogger("theirs").warning("event")
            structlog.get_logger("ours").info("about another", session_id="s2")
        structlog.get_logger("ours").info("afterwards")

    *in_turn, other, after = lines(written(Settings(), write))
    assert [(line["session_id"], line["client"]) for line in in_turn] == [("s1", "anna")] * 2
    assert other["session_id"] == "s2"
    assert "session_id" not in after


def test_level_is_the_setting_s() -> None:
    def write() -> None:
        structlog.get_logger("ours").info("quiet")
        logging.getLogger("theirs").info("quiet")
        structlog.get_logger("ours").error("loud")

    [line] = lines(written(Settings(log_level="error"), write))
    assert line["event"] == "loud"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_traceback_is_logged_without_local_variables(log_format: Any) -> None:
    def write() -> None:
        prompt = "a very private wish"
        try:
            raise ValueError(len(prompt))
        except ValueError:
            structlog.get_logger("ours").exception("incident")

    text = written(Settings(log_format=log_format), write)
    assert "Traceback" in text
    assert "ValueError: 19" in text
    assert "private" not in text.replace('prompt = "a very private wish"', "")


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "token", "authorization"])
def test_secrets_are_not_logged_even_when_given(log_format: Any, name: str) -> None:
    def write() -> None:
        structlog.get_logger("ours").info("event", **{name: "very-private"})

    text = written(Settings(log_format=log_format), write)
    assert "very-private" not in text
    assert name in text


def test_auto_is_json_off_a_terminal_and_console_on_one() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    writer = logs.configure(Settings(), stream)
    structlog.get_logger("ours").info("event")
    writer.close()
    assert not stream.getvalue().startswith("{")
    assert lines(written(Settings(), lambda: structlog.get_logger("ours").info("event")))


def test_control_characters_cannot_forge_lines() -> None:
    text = written(
        Settings(), lambda: structlog.get_logger("ours").info("event", name='x\n{"event": "y"}')
    )
    assert len(text.splitlines()) == 1


def test_ids_are_found_where_messages_keep_them() -> None:
    request = inference_pb2.GenerateRequest()
    request.options.request_id = "r1"
    logs.bind_ids(request)
    response = inference_pb2.GenerateResponse()
    response.event.session_id = "s1"
    logs.bind_ids(response)
    assert structlog.contextvars.get_contextvars() == {"request_id": "r1", "session_id": "s1"}
    logs.bind_ids(processing_pb2.GetSessionRequest(session_id="s2"))
    assert structlog.contextvars.get_contextvars()["session_id"] == "s2"


def test_ids_of_strangers_are_cut_and_printable() -> None:
    logs.bind_ids(processing_pb2.GetSessionRequest(session_id="x" * 1000))
    assert structlog.contextvars.get_contextvars()["session_id"] == "x" * 64
    structlog.contextvars.clear_contextvars()
    logs.bind_ids(processing_pb2.GetSessionRequest(session_id="a\nb"))
    logs.bind_ids(object())
    logs.bind_ids(None)
    assert structlog.contextvars.get_contextvars() == {}
