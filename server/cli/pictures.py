"""Finished pictures: put together from chunks, checked against their hash, kept as files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.choices import FORMATS
from server.cli.failures import CallFailed, CallFailure

if TYPE_CHECKING:
    from deviceops.v1 import event_pb2, session_pb2

ARTIFACT_ID = re.compile(r"[0-9a-f]{64}")
_MOST_NAME_BYTES = 120  # of an item's; a file's name may have 255
_ENDINGS = {1: ".png", 2: ".jpg", 3: ".webp", 4: ".avif"}  # by IMAGE_FILE_FORMAT_ number


@dataclass(frozen=True)
class SavedPicture:
    """A picture on this side's disk; `seed` is None where it was not drawn."""

    image_index: int
    seed: int | None
    artifact_id: str
    path: Path
    width: int
    height: int
    size_bytes: int


def seed_of(image: session_pb2.ImageResult) -> int | None:
    """The seed that a picture was drawn with; None where it was not."""
    return image.seed if image.HasField("seed") else None


def seed_words(seed: int | None) -> str:
    """A picture's seed as the end of a list."""
    return "" if seed is None else f", seed {seed}"


class Assembly:
    """Puts pictures together; chunks of one come in order, before its entry.

    After a lost connection a half-sent picture comes again from its first byte.
    """

    def __init__(self) -> None:
        self._index: int | None = None
        self._bytes = bytearray()
        self._broken = False

    def add(self, chunk: event_pb2.ImageChunk) -> None:
        """Take the next chunk; one that does not follow spoils its picture."""
        if chunk.offset_bytes == 0:
            self._index, self._bytes, self._broken = chunk.image_index, bytearray(), False
        if chunk.image_index != self._index or chunk.offset_bytes != len(self._bytes):
            self._broken = True
            return
        self._bytes += chunk.data

    def take(self, result: session_pb2.ImageResult) -> bytes:
        """The finished picture's bytes.

        Raises:
            CallFailed: DATA_LOSS, when they are not what their artifact id says.
        """
        data, index, broken = bytes(self._bytes), self._index, self._broken
        self._index, self._bytes = None, bytearray()
        if index != result.image_index or broken:
            raise _damaged(result, "part of it is missing")
        verify(data, result.artifact_id, advice=_again(result.artifact_id))
        return data


def verify(data: bytes, artifact_id: str, *, advice: str = "") -> None:
    """Raise `CallFailed` (DATA_LOSS) unless `artifact_id` is the SHA-256 of `data`."""
    found = hashlib.sha256(data).hexdigest()
    if found != artifact_id:
        raise damaged(artifact_id, f"its SHA-256 is {found}", advice=advice)


def damaged(artifact_id: str, why: str, *, advice: str = "") -> CallFailed:
    """What arrived is not the artifact."""
    return CallFailed(
        CallFailure(
            status="DATA_LOSS",
            message="The bytes that arrived are not those of the artifact;"
            f" nothing was saved ({why}).",
            metadata={"artifact_id": artifact_id},
            advice=advice,
        )
    )


def name_for(
    result: session_pb2.ImageResult, output: Path, image_count: int, unseeded: str = "picture"
) -> Path:
    """Where a picture goes: into the folder `output`, or as the file it names, with the ending
    of its own format. In a folder it is called by its seed, or `unseeded` where it has none.

    Only numbers, hexadecimal digits and an item's letters of the server's answer become part
    of a name.

    Raises:
        CallFailed: DATA_LOSS, when the artifact id is no SHA-256.
    """
    if not ARTIFACT_ID.fullmatch(result.artifact_id):
        raise _damaged(result, "its artifact id is no SHA-256")
    item = f"{_plain(result.item_id)}-" if result.item_id else ""
    ending = _ENDINGS.get(result.format, ".img")
    if names_file(output):
        named = FORMATS[output.suffix.lower().removeprefix(".")]
        if FORMATS.get(ending.removeprefix("."), named) != named:
            output = output.with_suffix(ending)
        if image_count <= 1:
            return output
        return output.with_stem(f"{output.stem}-{item}{result.image_index}")
    kind = result.seed if result.HasField("seed") else unseeded
    return output / f"{item}{kind}-{result.artifact_id[:12]}{ending}"


def _plain(item_id: str) -> str:
    """An item's name as a part of a file's: nothing that leads elsewhere, hides or is too
    long."""
    letters = re.sub(r"[^\w.-]+", "_", item_id).lstrip(".-")
    return letters.encode()[:_MOST_NAME_BYTES].decode(errors="ignore") or "_"


def names_file(output: Path) -> bool:
    """Whether `output` names a picture file rather than a folder."""
    return output.suffix.lower().removeprefix(".") in FORMATS and not output.is_dir()


def _damaged(result: session_pb2.ImageResult, why: str) -> CallFailed:
    return CallFailed(
        CallFailure(
            status="DATA_LOSS",
            message=f"Picture {result.image_index} arrived damaged ({why}); it was not saved.",
            advice=_again(result.artifact_id),
        )
    )


def _again(artifact_id: str) -> str:
    if not ARTIFACT_ID.fullmatch(artifact_id):
        return ""
    return f"The server keeps it: deviceops artifacts get {artifact_id} -o FILE"
