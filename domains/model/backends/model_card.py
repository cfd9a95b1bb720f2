"""The front matter of a model card: the lines between `---` at the top of a README.md.

It is YAML, of which this reads `key: value` and `- item` lists at the top level and
nothing else: no anchors, tags, or nesting, so nothing can be made of it but text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_CARD_BYTES = 1 << 16
_MAX_TAGS = 64
_MAX_TAG = 64
_MAX_TITLE = 128
_MAX_DESCRIPTION = 1024
_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_-]{0,63}):(?:\s+(.*))?")


@dataclass(frozen=True)
class ModelCard:
    """What a card says; empty where it says nothing."""

    title: str = ""
    license: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()


def read_card(content: bytes) -> ModelCard:
    """Read the beginning of a card; what is no card says nothing."""
    text = content[:MAX_CARD_BYTES].decode("utf-8", errors="replace")
    values = _front_matter(text.splitlines())
    return ModelCard(
        title=_first(values, "title", "model_name", limit=_MAX_TITLE),
        license=_first(values, "license", limit=_MAX_TAG),
        description=_first(values, "description", limit=_MAX_DESCRIPTION),
        tags=tags(values.get("tags", [])),
    )


def tags(values: Iterable[str]) -> tuple[str, ...]:
    """Clean tags, each once, in their order."""
    cleaned = (fit_to_show(value, _MAX_TAG) for value in values)
    return tuple(dict.fromkeys(tag for tag in cleaned if tag))[:_MAX_TAGS]


def fit_to_show(text: str, limit: int) -> str:
    """Text from a file made fit to show: printable, on one line, at most `limit` long."""
    # Four times the limit bounds the work and leaves room for what is dropped.
    shown = text[: 4 * limit]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else " " for c in shown)
    return " ".join(shown.split())[:limit]


def _front_matter(lines: list[str]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    if not lines or lines[0].strip() != "---":
        return values
    current: list[str] | None = None
    for line in lines[1:]:
        if line.rstrip() in {"---", "..."}:
            return values
        match = _KEY.fullmatch(line.rstrip())
        if match:
            current = values.setdefault(match[1].lower(), [])
            current.extend(_values(match[2] or ""))
        elif line.lstrip().startswith("- ") and current is not None:
            current.append(_unquoted(line.lstrip()[2:]))
        elif line[:1].isspace() and line.strip() and current:
            current[-1] = f"{current[-1]} {line.strip()}"
        elif line.strip():
            current = None  # Something this reader does not know: not part of the last key.
    return {}  # Without a closing line it was no front matter.


def _values(text: str) -> list[str]:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [_unquoted(part) for part in text[1:-1].split(",")]
    if text in {"|", ">", "|-", ">-"}:
        return [""]  # The text follows on indented lines.
    return [_unquoted(text)] if text else []


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _first(values: dict[str, list[str]], *keys: str, limit: int) -> str:
    for key in keys:
        for value in values.get(key, []):
            return fit_to_show(value, limit)
    return ""
