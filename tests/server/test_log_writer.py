"""The log is written beside everything else, and a flood of it is summed up."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from server import logs
from server.config import Settings
from server.log_writer import LogWriter, SourceLimit


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


class Stuck(io.StringIO):
    """An output that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.released = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        assert self.released.wait(30)
        return super().write(text)


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_an_output_that_is_stuck_holds_nobody_up_and_what_is_lost_is_counted(
    log_lines: list[dict[str, Any]],
) -> None:
    output = Stuck()
    writer = LogWriter(output, most_waiting=10)
    record = logging.makeLogRecord({"name": "x", "msg": "plain"})
    writer.emit(record)
    assert output.asked.wait(30)
    emitting = threading.Thread(target=lambda: [writer.emit(record) for _ in range(30)])
    emitting.start()
    emitting.join(25)  # less than the output stays stuck
    assert not emitting.is_alive()
    output.released.set()
    writer.close()
    assert output.getvalue().count("plain") == 11
    [left_out] = [line for line in log_lines if line["event"] == "log_lines_left_out"]
    assert left_out["count"] == 20


def test_a_source_that_floods_is_summed_up_and_others_are_written() -> None:
    output = io.StringIO()
    writer = logs.configure(Settings(), output)
    flooding = structlog.get_logger("worker").bind(device_id="cpu:0")
    for number in range(5_000):
        flooding.error("worker_output", line=f"ERROR {number}")
    structlog.get_logger("worker").bind(device_id="cpu:1").error("worker_output", line="once")
    structlog.get_logger("ours").info("event")
    writer.close()
    written = lines(output)
    flood = [line for line in written if line.get("device_id") == "cpu:0"]
    assert 500 <= len(flood) < 1_500
    [left_out] = [line for line in written if line["event"] == "log_lines_left_out"]
    assert left_out["count"] == 5_000 - len(flood)
    assert left_out["source"] == "worker worker_output cpu:0"
    assert {"once", "event"} <= {line.get("line", line["event"]) for line in written}


def test_a_source_may_go_on_at_its_pace() -> None:
    now = [0.0]
    limit = SourceLimit(lambda: now[0])
    source = ("a",)
    assert sum(limit.allows(source) for _ in range(1_000)) == 500
    assert limit.take_left_out() == {source: 500}
    now[0] += 1
    assert sum(limit.allows(source) for _ in range(1_000)) == 50
    now[0] += 3_600
    assert sum(limit.allows(source) for _ in range(1_000)) == 500


def test_invented_sources_do_not_fill_the_memory() -> None:
    limit = SourceLimit()
    for number in range(5_000):
        assert limit.allows((str(number),))
    assert len(limit._allowances) == 1_000


def test_an_output_that_is_gone_ends_nothing() -> None:
    output = io.StringIO()
    writer = LogWriter(output)
    output.close()
    writer.emit(logging.makeLogRecord({"name": "x", "msg": "line"}))
    writer.close()


def test_lines_of_libraries_keep_the_ids_of_the_call_they_belong_to() -> None:
    output = io.StringIO()
    writer = logs.configure(Settings(), output)
    structlog.contextvars.bind_contextvars(session_id="s1")
    logging.getLogger("theirs").warning("event")
    structlog.contextvars.clear_contextvars()
    writer.close()
    [line] = lines(output)
    assert line["session_id"] == "s1"


def test_without_a_thread_lines_are_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    output = io.StringIO()
    monkeypatch.setattr(threading.Thread, "start", start)
    writer = LogWriter(output)
    writer.emit(logging.makeLogRecord({"name": "x", "msg": "line"}))
    writer.close()
    assert output.getvalue() == "line\n"
