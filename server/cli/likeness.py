"""What a picture's file says it was drawn with, for `generate --like`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deviceops.v1 import generation_pb2
from server.cli.choices import UnusableOptions
from server.cli.infotext import read_infotext
from server.cli.picture_texts import read_texts
from server.cli.stated_settings import read_stated

_OTHERS = (
    "Its settings are those of the text that programs share: what this server's arithmetic and "
    "noise make of them may look different."
)


@dataclass(frozen=True)
class Likeness:
    """Settings out of a picture; `notes` say what could not be taken over."""

    settings: generation_pb2.GenerationSettings
    notes: tuple[str, ...] = ()


def likeness(path: Path) -> Likeness:
    """The settings that a PNG, JPEG, WebP or AVIF file holds: this server's own text, or else
    the one that other programs write too.

    Raises:
        UnusableOptions: The file cannot be read, or holds no settings that can be.
    """
    texts = read_texts(path)
    try:
        if texts.full:
            settings, notes = read_stated(texts.full)
            return Likeness(settings, tuple(notes))
        if texts.shared:
            reading = read_infotext(texts.shared)
            return Likeness(reading.settings, (_OTHERS, *reading.notes))
    except UnusableOptions as error:
        raise UnusableOptions(f"--like {path}: {error}") from None
    raise UnusableOptions(f"--like {path}: the file holds no settings")
