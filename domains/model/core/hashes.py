"""Hashes of weight files that are known, kept for as long as the files are as they were."""

from __future__ import annotations

from urllib.parse import quote

from domains.codec import ByteCount, Sha256, Value
from domains.device.core import facts as kept
from domains.device.ports import FactsStore
from domains.model.types import FileState, Model, weights_sha256

_KEY = "model.sha256 "


class _FileHash(Value, frozen=True):
    size_bytes: ByteCount
    modified_ns: int
    sha256: Sha256


class KnownHashes:
    """The SHA-256 of files by path, size and time of change. Outlives the server.

    Args:
        facts: Keeps them.
    """

    def __init__(self, facts: FactsStore) -> None:
        self._facts = facts
        self._read: dict[str, _FileHash | None] = {}

    def of(self, model: Model) -> str:
        """A model's hash; empty while that of one of its files is not known."""
        hashes = {}
        for file in model.weights:
            sha256 = self.of_file(model, file)
            if not sha256:
                return ""
            hashes[file.name] = sha256
        return weights_sha256(hashes)

    def of_file(self, model: Model, file: FileState) -> str:
        """The hash of one of its files; empty while it is not known."""
        key = _key(model, file)
        if key not in self._read:
            self._read[key] = kept.recall(self._facts, key, _FileHash)
        known = self._read[key]
        if known is None or (known.size_bytes, known.modified_ns) != file[1:]:
            return ""
        return known.sha256

    def put(self, model: Model, file: FileState, sha256: str) -> None:
        """Know the hash of a file. Blocks while it is written: call it off the loop."""
        key, known = _key(model, file), _FileHash(file.size_bytes, file.modified_ns, sha256)
        self._read[key] = known
        kept.note(self._facts, key, known)

    def forget(self, model: Model) -> None:
        """The model is gone from its place."""
        for file in model.weights:
            key = _key(model, file)
            if self._read.pop(key, None) is not None:
                self._facts.forget(key)


def _key(model: Model, file: FileState) -> str:
    # Names on disk need not be text.
    place = f"{model.place.path.as_posix()}/{file.name}".rstrip("/")
    return _KEY + quote(place, errors="surrogateescape")
