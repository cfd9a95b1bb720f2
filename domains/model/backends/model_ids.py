"""Ids for models: the name of the file or folder, made fit for an id and unique."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from domains import checks

_MAX_NAME = 100


def unique_ids(models: Sequence[tuple[str, str]]) -> list[str]:
    """An id for each model.

    The first of several with one name has it alone; the others' get a suffix that
    depends only on their own place, so that the next one does not rename them.

    Args:
        models: Name and place of each (`"emoji-xl"`, `"0/sdxl/emoji-xl"`), in order of
            precedence. Places are unique.
    """
    taken: set[str] = set()
    ids = []
    for name, place in models:
        candidate = fit(name)
        # Ids that differ in case only are one file on half of all platforms.
        if candidate.lower() in taken:
            mark = hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()
            length = 8
            while (with_mark := f"{candidate}-{mark[:length]}").lower() in taken:
                length += 1
            candidate = with_mark
        taken.add(candidate.lower())
        ids.append(candidate)
    return ids


def fit(name: str) -> str:
    """The closest id to a name: accents go, what else does not belong becomes a hyphen."""
    plain = name
    if not name.isascii():
        parts = unicodedata.normalize("NFKD", name)
        plain = "".join(c for c in parts if not unicodedata.combining(c))
    candidate = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)
    candidate = re.sub(r"\.{2,}", ".", candidate)[:_MAX_NAME].strip("-._")
    if checks.name("model_id", candidate) is None:
        return candidate
    return f"model-{candidate}" if candidate else "model"
