"""Configurations that a single file has in its header: those of the folder it was made of.

Shapes do not tell everything of a model, and what they leave open is mostly what all models of
a family have; a file that was made of a folder keeps what that folder said. It needs nothing
beside it, wherever it is moved, and programs that do not know the entry read the file as ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.component_config import ConfigFiles

HELD_FILES = "deviceops.files"
"""The header's entry: an object, from the files' names to their texts."""
VOCABULARY = ("vocab.json", "merges.txt")
"""What is not held of a tokenizer that has CLIP's."""
MAX_CHARACTERS = 8 << 20
"""Of the entry: more would keep everything else waiting while it is parsed."""
_MOST_FILES = 64
_WHOLE = "tokenizer.json"


class HeldFiles:
    """See `ConfigFiles`.

    Args:
        texts: Contents by name.
        clip: The files of CLIP's tokenizer, which stand in where a tokenizer's folder has no
            vocabulary.
    """

    def __init__(self, texts: Mapping[str, str], clip: ConfigFiles) -> None:
        self._texts = texts
        self._clip = clip

    @classmethod
    def of(cls, entry: str, clip: ConfigFiles) -> HeldFiles:
        """Read the header's entry.

        Raises:
            FailedPrecondition: MODEL_CONFIG_INVALID.
        """
        texts = None
        if len(entry) <= MAX_CHARACTERS:
            with suppress(ValueError, RecursionError):
                texts = json.loads(entry)
        if (
            not isinstance(texts, dict)
            or len(texts) > _MOST_FILES
            or not all(isinstance(text, str) for text in texts.values())
        ):
            raise FailedPrecondition(
                f"The file's metadata has a {HELD_FILES} that holds no configurations; convert "
                "or fetch the model again.",
                reason=Reason.MODEL_CONFIG_INVALID,
            )
        return cls(texts, clip)

    def has_file(self, name: str) -> bool:
        """See `ConfigFiles`."""
        return name in self._texts or self._is_clips(name)

    def has_folder(self, name: str = "") -> bool:
        """See `ConfigFiles`."""
        return not name or any(held.startswith(f"{name}/") for held in self._texts)

    def read(self, name: str, most: int) -> bytes:
        """See `ConfigFiles`."""
        if name in self._texts:
            # A lone surrogate is no text of any file, and no JSON either.
            return self._texts[name].encode("utf-8", "replace")[: most + 1]
        if self._is_clips(name):
            return self._clip.read(name.rpartition("/")[2], most)
        raise FailedPrecondition(
            f"The configurations that the file holds lack {name}; convert the model again.",
            reason=Reason.MODEL_INCOMPLETE,
            metadata={"missing": name},
        )

    def _is_clips(self, name: str) -> bool:
        folder, _, last = name.rpartition("/")
        if last not in VOCABULARY or not folder or not self.has_folder(folder):
            return False
        return not any(f"{folder}/{own}" in self._texts for own in (*VOCABULARY, _WHOLE))
