"""What clients say of a model: a small file beside it, named after it.

It lies beside the model and not in it: what a worker has loaded stays as it was, and a folder
that is compared with where it came from is the same. It moves with the model when both are
moved, and other servers over the same folder know it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from domains.codec import Malformed, decode_json, encode_json
from domains.errors import DomainError
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.confinement import open_root
from domains.model.backends.roots import NOTES_ENDING, Found
from domains.model.errors import ReadOnlyModel
from domains.model.types import Model, ModelNotes
from domains.values import ModelPlace
from domains.whole_files import whole_file

_LOG = logging.getLogger(__name__)
_MOST_BYTES = 1 << 16
_NOTHING = ModelNotes()


def with_notes(model: Model, found: Found) -> Model:
    """A model as clients see it: with what they said in place of what its files say.

    Raises:
        OSError: The machine cannot read it at the moment.
    """
    if found.entry is None or not found.notes:
        return model
    notes = _read(found.entry)
    return replace(
        model,
        name=notes.name or model.name,
        description=notes.description or model.description,
        tags=notes.tags or model.tags,
        trigger_words=notes.trigger_words or model.trigger_words,
    )


class NoteFiles:
    """See `NoteKeeper`."""

    def read(self, entry: ModelPlace) -> ModelNotes:
        """See `NoteKeeper`."""
        return _read(entry)

    def write(self, entry: ModelPlace, notes: ModelNotes) -> None:
        """See `NoteKeeper`."""
        target = writable(entry)
        target = target.with_name(target.name + NOTES_ENDING)
        try:
            if notes == _NOTHING:
                target.unlink(missing_ok=True)
                return
            with whole_file(target) as file:
                file.write(encode_json(notes))
        except PermissionError as error:
            raise ReadOnlyModel(entry.inside.name) from error


def writable(entry: ModelPlace) -> Path:
    """The path of a model's name, if the folder that it lies in is reached by no link.

    Raises:
        ReadOnlyModel: It has become another folder since it was found.
        OSError: It cannot be reached.
    """
    parents = entry.inside.parent.parts
    root = open_root(entry.root)
    if root.find(*parents).inside != parents:
        raise ReadOnlyModel(entry.inside.name)
    return root.path.joinpath(*parents, entry.inside.name)


def _read(entry: ModelPlace) -> ModelNotes:
    place = ModelPlace(entry.root, entry.inside.with_name(entry.inside.name + NOTES_ENDING))
    try:
        files = ConfinedFiles(place)
        if not files.exists():
            return _NOTHING
        content = files.read("", _MOST_BYTES)
        return decode_json(ModelNotes, content[:_MOST_BYTES])
    except (DomainError, Malformed) as error:
        _LOG.warning("%r is left out: %s", str(place.path), error)
        return _NOTHING
