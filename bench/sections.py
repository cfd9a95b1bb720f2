"""A page of measurements whose parts are made by runs of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import Machine, Others, busy_note, describe_machine
from bench.outcome import Goal

_BEGINNING = re.compile(r"^## (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """What one measurement came to.

    `table` has its heading first, then a row for each arm or figure; `notes` say what the
    figures do not.
    """

    name: str
    title: str
    table: Sequence[Sequence[str]]
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = ()

    @property
    def reached(self) -> bool:
        """Whether every goal was."""
        return all(goal.reached for goal in self.goals)

    def lines(self, command: str, machine: Machine, others: float) -> list[str]:
        """The section as Markdown.

        Args:
            command: What it was measured with.
            machine: On which.
            others: Percent of the machine that others used meanwhile.
        """
        heading, *body = self.table
        note = busy_note(machine, {self.name: others})
        return [
            f"## {self.name}",
            "",
            f"{self.title} `{command}`:",
            "",
            f"| {' | '.join(heading)} |",
            f"|{' --- |' * len(heading)}",
            *(f"| {' | '.join(row)} |" for row in body),
            "",
            *(f"- {_judged(goal)}" for goal in self.goals),
            *(f"- {each}" for each in self.notes),
            *([""] if self.goals or self.notes else []),
            *([f"**{note}**", ""] if note else []),
            f"{machine.processor}, {machine.cores} cores, {machine.memory_gib:g} GiB,"
            f" {machine.system}, Python {machine.python}.",
            "",
        ]


class Watched:
    """Looks at the machine while a section is measured; make it before."""

    def __init__(self) -> None:
        self._machine, self._others = describe_machine(), Others()

    def lines(self, section: Section, command: str) -> list[str]:
        """The section as Markdown, with what it was measured on."""
        return section.lines(command, self._machine, self._others.percent())


def _judged(goal: Goal) -> str:
    verdict = "reached" if goal.reached else "MISSED"
    if not goal.certain:
        verdict += ", unsure"
    return f"{goal.figure}: {goal.value:.3g} {goal.unit}; goal {goal.limit:.3g}: {verdict}."


def parts_of(page: str) -> dict[str, str]:
    """The sections of a page by name, each from its heading on."""
    begins = list(_BEGINNING.finditer(page))
    ends = [each.start() for each in begins[1:]] + [len(page)]
    return {
        begin[1]: page[begin.start() : end].rstrip("\n") + "\n"
        for begin, end in zip(begins, ends, strict=True)
    }


def keep(
    path: Path, introduction: str, sections: Mapping[str, str], order: Sequence[str]
) -> None:
    """Put sections into the page at `path`; those that it has under other names stay.

    Args:
        path: The page; it is made where there is none.
        introduction: What it begins with.
        sections: What each is, by name.
        order: Every name in the order of the page.
    """
    before = parts_of(path.read_text("utf-8")) if path.exists() else {}
    parts = before | sections
    page = "\n".join([introduction, *(parts[name] for name in order if name in parts)])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, "utf-8")
