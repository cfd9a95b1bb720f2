"""Bounds on configuration files: a row per key, and rules that take several keys.

A configuration decides how many layers are built and how long the noise schedule is, so
an unchecked one can take hours or all memory (`layers_per_block: 200000` does), and a
value of another type than its key has fails somewhere deep in a library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Config = dict[str, Any]

Rule = Callable[[Mapping[str, Any]], str]
"""What is wrong with a configuration whose every key is within bounds; empty if nothing."""


class Bound(Protocol):
    """What the value of one key may be; a key that is left out always may."""

    def problem(self, value: Any) -> str:
        """What is wrong with a value, to stand after the key's name; empty if nothing."""
        ...


@dataclass(frozen=True)
class Whole:
    """A whole number in a range."""

    least: int
    greatest: int

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        if type(value) is not int:
            return "is not a whole number"
        if not self.least <= value <= self.greatest:
            return f"is outside {self.least} to {self.greatest}"
        return ""


@dataclass(frozen=True)
class Number:
    """A number between two others; where `closed`, it may also be one of the two."""

    low: float
    high: float
    closed: bool = False

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        if not is_number(value):
            return "is not a number"
        if self.low < value < self.high or (self.closed and value in (self.low, self.high)):
            return ""
        return f"is not between {self.low} and {self.high}"


@dataclass(frozen=True)
class Flag:
    """True or false; null counts as false in every library here."""

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        return "" if value is None or isinstance(value, bool) else "is not true or false"


@dataclass(frozen=True)
class Line:
    """Any text of bounded length: of keys whose words decide nothing here."""

    longest: int = 512

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        if not isinstance(value, str):
            return "is not a text"
        return "" if len(value) <= self.longest else "is too long"


@dataclass(frozen=True)
class Words:
    """One of these texts."""

    known: frozenset[str]

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        return "" if isinstance(value, str) and value in self.known else "is unknown"


def words(*known: str) -> Words:
    """A bound of these texts."""
    return Words(frozenset(known))


@dataclass(frozen=True)
class Many:
    """A list of values, each within `each`; where `or_one`, also one such value alone."""

    each: Bound
    least: int = 1
    most: int = 8
    or_one: bool = False

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        if not isinstance(value, list):
            return self.each.problem(value) if self.or_one else "is not a list"
        if not self.least <= len(value) <= self.most:
            some = self.least if self.least == self.most else f"{self.least} to {self.most}"
            return f"does not list {some} values"
        problems = (problem for item in value if (problem := self.each.problem(item)))
        return next((f"lists a value that {problem}" for problem in problems), "")


@dataclass(frozen=True)
class OrNull:
    """Null, or a value within `bound`."""

    bound: Bound

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        return "" if value is None else self.bound.problem(value)


@dataclass(frozen=True)
class Unused:
    """Null, false or empty: anything else asks for what no model here is built with."""

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        empty = value is None or value is False or value in ([], {}, "")
        return "" if empty else "is not supported"


@dataclass(frozen=True)
class ConfigBounds:
    """What a configuration file may say.

    Attributes:
        keys: The bound of every key that its class reads. Others are ignored, as the
            libraries ignore them.
        required: Keys that must be there.
        rules: What keys must be to each other; asked once every key is within bounds.
    """

    keys: Mapping[str, Bound]
    required: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = field(default=())

    def problem(self, config: Mapping[str, Any]) -> str:
        """What is wrong with a configuration, as the rest of a sentence; empty if nothing."""
        for key in self.required:
            if config.get(key) is None:
                return f"has no {key}"
        for key, bound in self.keys.items():
            found = bound.problem(config[key]) if key in config else ""
            if found:
                return f"has a value of {key} that {found}"
        return next((found for rule in self.rules if (found := rule(config))), "")


def is_number(value: Any) -> bool:
    """Whether JSON's value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
