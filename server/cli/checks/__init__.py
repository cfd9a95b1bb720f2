"""What `deviceops doctor` looks at: the machine, the settings, and the running server."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a check came to; only a problem makes the doctor's exit code 1."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One checked thing: what it is, what was found, and what to do unless it is fine."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Finding:
    """A thing that is fine."""
    return Finding(name, Verdict.OK, found)


def note(name: str, found: str, advice: str = "") -> Finding:
    """A thing worth knowing that stops nothing."""
    return Finding(name, Verdict.NOTE, found, advice)


def problem(name: str, found: str, advice: str) -> Finding:
    """A thing that stops pictures from being drawn."""
    return Finding(name, Verdict.PROBLEM, found, advice)
