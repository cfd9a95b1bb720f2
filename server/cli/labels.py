"""Labels of artifacts as people write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from server.cli.choices import UnusableOptions
from server.cli.wording import printable


def labels_in(assignments: Iterable[str]) -> dict[str, str]:
    """Labels by name, of texts `NAME=VALUE`.

    Raises:
        UnusableOptions: One is not so, or two name the same label.
    """
    labels: dict[str, str] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UnusableOptions(f"{text!r} is not NAME=VALUE")
        if name in labels:
            raise UnusableOptions(f"the label {name!r} is there twice")
        labels[name] = value
    return labels


def labels_as_text(labels: Mapping[str, str]) -> str:
    """`NAME=VALUE` of each, by name."""
    return printable(", ".join(f"{name}={labels[name]}" for name in sorted(labels)))
