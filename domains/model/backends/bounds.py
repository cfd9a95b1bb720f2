"""Bounds on configuration files: a row per key, and rules that take several keys.

A configuration decides how many layers are built and how long the noise schedule is, so
an unchecked one can take hours or all memory (`layers_per_block: 200000` does).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Config = dict[str, Any]

Rule = Callable[[Mapping[str, Any]], str]
"""What is wrong with a configuration whose every key is within bounds; empty if nothing."""


class Bound(Protocol):
    """What the value of one key may be; null, and a key that is left out, always may."""

    def problem(self, value: Any) -> str:
        """What is wrong with a value, to stand before the key's name; empty if nothing."""
        ...


@dataclass(frozen=True)
class Whole:
    """A whole number in a range; where `listed`, also a list of such, lists nested."""

    least: int
    greatest: int
    listed: bool = False

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        numbers = flat(value) if self.listed else [value]
        for number in numbers:
            if type(number) is not int or not self.least <= number <= self.greatest:
                return f"is outside {self.least} to {self.greatest}"
        return ""


@dataclass(frozen=True)
class Number:
    """A number between two others; where `listed`, a list of such, not an empty one."""

    above: float
    below: float
    listed: bool = False

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        numbers = value if self.listed else [value]
        if (
            not isinstance(numbers, list)
            or not numbers
            or not all(is_number(n) and self.above < n < self.below for n in numbers)
        ):
            return f"is not between {self.above} and {self.below}"
        return ""


@dataclass(frozen=True)
class Words:
    """One of these texts, or a list of them."""

    known: frozenset[str]

    def problem(self, value: Any) -> str:
        """See `Bound`."""
        known = all(isinstance(word, str) and word in self.known for word in flat(value))
        return "" if known else "is unknown"


def words(*known: str) -> Words:
    """A bound of these texts."""
    return Words(frozenset(known))


@dataclass(frozen=True)
class ConfigBounds:
    """What a configuration file may say.

    Attributes:
        keys: The bound of each key that sizes something or is looked up.
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
            value = config.get(key)
            found = "" if value is None else bound.problem(value)
            if found:
                return f"has a {key} that {found}"
        return next((found for rule in self.rules if (found := rule(config))), "")


def is_number(value: Any) -> bool:
    """Whether JSON's value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def flat(value: Any) -> list[Any]:
    """A value, or everything in a list and the lists in it."""
    if isinstance(value, list):
        return [inner for item in value for inner in flat(item)]
    return [value]
