"""Pictures that requests are given: files, artifacts, and pictures of sessions."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from deviceops.v1 import common_pb2
from server.cli.choices import UnusableOptions
from server.cli.pictures import ARTIFACT_ID

_MOST_INLINE_BYTES = 3_145_728  # the contract's, of InputImage.inline
_OF_SESSION = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})#([0-9]{1,7})")


def input_image(
    picture: str, store: Callable[[Path], str] | None = None
) -> common_pb2.InputImage:
    """The picture as a request takes it.

    Args:
        picture: A file's path, an artifact id, or a session's id, # and the picture's number.
        store: Stores a file that is too large for a message; its artifact id.

    Raises:
        UnusableOptions: The file cannot be read, or is too large and nobody stores it.
    """
    if ARTIFACT_ID.fullmatch(picture):
        return common_pb2.InputImage(artifact_id=picture)
    if of_session := _OF_SESSION.fullmatch(picture):
        named = common_pb2.SessionImage(
            session_id=of_session[1], image_index=int(of_session[2])
        )
        return common_pb2.InputImage(session_image=named)
    try:
        with Path(picture).open("rb") as file:
            data = file.read(_MOST_INLINE_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UnusableOptions(f"{picture} cannot be read: {why}") from error
    if len(data) <= _MOST_INLINE_BYTES:
        return common_pb2.InputImage(inline=data)
    if store is None:
        raise UnusableOptions(
            f"{picture} has more than 3 MiB: send it with deviceops upload, and name the"
            " artifact id instead"
        )
    return common_pb2.InputImage(artifact_id=store(Path(picture)))
