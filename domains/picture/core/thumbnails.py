"""Small pictures of artifacts, made by inspectors."""

from __future__ import annotations

import asyncio

from domains.artifact.types import Thumbnail
from domains.errors import Reason
from domains.finishing import finished
from domains.picture.core.pictures import Pictures
from domains.picture.errors import InvalidPicture
from domains.picture.jobs import ThumbnailJob, ThumbnailReport
from domains.picture.ports import PictureFiles
from domains.picture.types import InputImage

_FIELD = "artifact_id"


class ThumbnailMaking:
    """Makes small pictures.

    Args:
        pictures: Gives what they are made of, and has inspectors look at it.
        files: Where they lie meanwhile.
    """

    def __init__(self, pictures: Pictures, files: PictureFiles) -> None:
        self._pictures, self._files = pictures, files

    async def make(self, artifact_id: str, edge_pixels: int) -> Thumbnail:
        """The small picture of an artifact of the call's client, its longer edge at most
        `edge_pixels` long.

        Raises:
            InvalidPicture: IMAGE_UNREADABLE, IMAGE_TOO_LARGE, IMAGE_FORMAT_UNSUPPORTED.
            NotFound: ARTIFACT_NOT_FOUND.
            DomainError: It cannot be stored or read now.
        """
        image = InputImage(artifact_id=artifact_id)
        async with self._pictures.fetched(image, _FIELD) as (source, _):
            target = await asyncio.to_thread(self._files.new_target)
            try:
                job = ThumbnailJob(source, target, edge_pixels)
                report = await self._pictures.inspect(job, ThumbnailReport, _FIELD)
                size = (report.width, report.height)
                data = await asyncio.to_thread(self._files.read_small, target, *size)
            finally:
                await finished(asyncio.to_thread(self._files.remove, target))
        if data is None or max(size) > edge_pixels:
            rule = "Made its decoder answer with something else than a picture."
            raise InvalidPicture.at(_FIELD, Reason.IMAGE_UNREADABLE, rule)
        return Thumbnail(data, *size)
