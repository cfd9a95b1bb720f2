"""The benchmarks of sessions measure what they say, and keep it on one page."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench import batches, journal, mixed, queued, resuming, sessions, watchers
from bench.machine import describe_machine
from bench.outcome import Goal
from bench.sections import Section, Watched, keep, parts_of
from tests.running import Client

PLAIN = Section("one", "What it is.", [("", "a", "b"), ("x", "1", "2")])


def numbers(text: str) -> list[float]:
    """Every number in a text."""
    return [float(each) for each in re.findall(r"-?\d+(?:\.\d+)?", text)]


def cell(section: Section, row: str, column: str) -> float:
    """A figure of the table."""
    heading, *body = section.table
    [found] = [each for each in body if each[0] == row]
    return float(found[list(heading).index(column)])


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        (Goal("growth", 100.0, 12.5, "MiB"), "growth: 12.5 MiB; goal 100: reached."),
        (Goal("growth", 100.0, 112.0, "MiB"), "growth: 112 MiB; goal 100: MISSED."),
        (Goal("time", 1.2, 1.1, "x", 1.0, 1.3), "time: 1.1 x; goal 1.2: reached, unsure."),
    ],
)
def test_a_section_says_whether_its_goal_was_reached(goal: Goal, words: str) -> None:
    section = replace(PLAIN, goals=[goal], notes=["a note"])
    lines = section.lines("command", describe_machine(), 0.0)
    assert f"- {words}" in lines
    assert "- a note" in lines
    assert "| x | 1 | 2 |" in lines
    assert section.reached is (goal.value <= goal.limit)


def test_a_section_says_that_the_machine_had_other_work() -> None:
    machine = replace(describe_machine(), busy_percent=0.0)
    told = "\n".join(PLAIN.lines("command", machine, 50.0))
    assert "up to 50 % during" in told
    assert "other work" not in "\n".join(PLAIN.lines("command", machine, 1.0))


def test_a_page_keeps_the_sections_that_were_not_measured_anew(tmp_path: Path) -> None:
    page, watched = tmp_path / "results" / "page.md", Watched()
    for name, title in (("two", "Second."), ("one", "First."), ("two", "Again.")):
        made = "\n".join(watched.lines(replace(PLAIN, name=name, title=title), "command"))
        keep(page, "# All\n", {name: made}, ["one", "two", "three"])
    text = page.read_text()
    assert text.startswith("# All\n")
    parts = parts_of(text)
    assert list(parts) == ["one", "two"]
    assert "First." in parts["one"]
    assert "Again." in parts["two"]
    assert "Second." not in text


def test_the_journal_is_measured_beside_none() -> None:
    section = journal.measure(50)
    assert [row[0] for row in section.table[1:]] == [
        "a session accepted alone",
        "an event",
        "one of 50 sessions accepted at once",
    ]
    for row in section.table[1:]:
        without, with_journal, ratio = map(float, row[1:])
        assert min(without, with_journal) > 0
        assert ratio == pytest.approx(with_journal / without, rel=0.1)
    [known] = section.notes  # those accepted alone, the one with events, and the fifty
    assert f"knows {journal.SESSIONS + 1 + 50} sessions" in known


def test_batches_draw_as_many_as_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[batches.Arm, int]] = []
    draw = batches.Arm.draw

    async def noted(
        arm: batches.Arm, client: Client, pictures: batches.Pictures, first: int, count: int
    ) -> float:
        drawn.append((arm, first))
        return await draw(arm, client, pictures, first, count)

    monkeypatch.setattr(batches.Arm, "draw", noted)
    section = batches.measure(batches.TINY, 4)
    arms = [*batches.EXACT_ARMS]
    warmed, measured = drawn[: len(arms)], drawn[len(arms) :]
    assert [arm for arm, _ in warmed] == arms
    assert [arm for arm, _ in measured] == [*arms, *reversed(arms)]
    firsts = [first for _, first in measured]
    assert firsts == [0, 2, 4, 6, 8, 10]  # nothing is drawn twice: a cache would answer
    column = "times as fast"
    fastest = max(cell(section, arm.name, column) for arm in arms if arm != batches.CALLS)
    assert cell(section, batches.CALLS.name, column) == 1.0
    [goal] = section.goals
    assert goal.value == pytest.approx(1 / fastest, rel=0.02)
    assert goal.limit == pytest.approx(1 / 1.2)


def test_what_is_faster_in_fastest_alone_does_not_count_for_exact() -> None:
    calls, batch, shared = batches.EXACT_ARMS
    taken = {
        calls: batches.Taken(12.0, 1.0, 11.0, 2),
        batch: batches.Taken(11.0, 0.5, 10.5, 2),
        shared: batches.Taken(10.5, 0.5, 10.0, 2),
        batches.FASTEST_CALLS: batches.Taken(8.0, 1.0, 7.0, 2),
        batches.FASTEST_SHARED: batches.Taken(6.0, 0.5, 5.5, 2),
    }
    section = batches.Comparison(taken).section(batches.DEMO)
    assert [goal.value for goal in section.goals] == [10.5 / 12, 6 / 12, 6 / 8]
    assert [goal.reached for goal in section.goals] == [False, True, True]
    assert cell(section, "as a batch that shares passes, FASTEST", "times as fast") == 2.0
    [note] = section.notes
    assert numbers(note)[:3] == [500, 6000, 8.3]


def test_waiting_sessions_are_all_taken_up() -> None:
    section = queued.measure(30)
    for row in ("start to serving, s", "start until all wait again, s"):
        assert cell(section, row, "with 30") > 0
    for column in ("without", "with 30"):
        serving = cell(section, "start to serving, s", column)
        assert serving <= cell(section, "start until all wait again, s", column)


def test_resuming_is_measured_beside_a_plain_start() -> None:
    section = resuming.measure(1)
    [goal] = section.goals
    ours, theirs = (float(row[1]) for row in section.table[1:])
    assert goal.value == pytest.approx(ours / theirs, rel=0.05)


def test_every_watcher_sees_every_event() -> None:
    section = watchers.measure(3, 1)
    sent = next(note for note in section.notes if note.startswith("events sent"))
    _, least, most = numbers(sent)
    assert least == most >= 2 * 150
    assert section.goals[0].value > 0


async def test_requests_of_every_kind_are_sent() -> None:
    section = await asyncio.to_thread(mixed.measure, 200, 120.0)
    assert len(section.table) == 1 + 5
    counts = next(note for note in section.notes if "before it was counted" in note)
    assert all(kind in counts for kind in ("generations", "downloads", "questions"))
    assert [goal.limit for goal in section.goals] == [100.0, 100.0]


def test_the_program_prints_and_keeps_what_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missed = replace(PLAIN, name="two", goals=[Goal("growth", 1.0, 2.0, "MiB")])
    both = {"one": lambda quick: PLAIN, "two": lambda quick: missed}
    monkeypatch.setattr(sessions, "SECTIONS", both)
    out = tmp_path / "page.md"
    assert sessions.main(["--quick", "--only", "one", "--out", str(out)]) == 0
    assert list(parts_of(out.read_text())) == ["one"]
    assert "`python -m bench.sessions --only one --quick`" in capsys.readouterr().out
    assert sessions.main(["--quick"]) == 1
    assert "MISSED" in capsys.readouterr().out
