"""What a run does with pictures by itself: looking who made them, and keeping them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domains.artifact.core import ArtifactStore
from domains.artifact.types import LabelChange
from domains.clients import caller
from domains.errors import NotFound, Reason
from domains.picture.core import Pictures
from domains.picture.errors import InvalidPicture
from domains.picture.types import InputImage
from domains.provenance.core import Verification
from domains.provenance.types import SignatureState
from domains.session.types import ImageResult
from domains.values import ImageFileFormat

_FORMATS = {f"image/{format.value}": format for format in ImageFileFormat}


@dataclass(frozen=True)
class PictureWork:
    """Work on pictures that the call's client names in fields.

    Args:
        verification: Reads marks.
        pictures: Knows which artifact is meant.
        artifacts: Keeps them.
    """

    verification: Verification
    pictures: Pictures
    artifacts: ArtifactStore

    async def trusted(self, image: InputImage, field: str) -> bool:
        """Whether a picture has a signature of somebody whom this server trusts.

        Raises:
            DomainError: As `Verification.verify`.
        """
        found = await self.verification.verify(image, field)
        return found.report.manifest.state is SignatureState.TRUSTED

    async def keep(
        self,
        image: InputImage,
        field: str,
        *,
        pinned: bool | None,
        retention_seconds: float | None,
        labels: Mapping[str, str],
    ) -> ImageResult:
        """Have a picture kept otherwise, None leaving as it is; returns what it is.

        Raises:
            InvalidPicture: IMAGE_UNREADABLE: the artifact is no picture.
            NotFound: ARTIFACT_NOT_FOUND or SESSION_NOT_FOUND; the metadata names the field.
            DomainError: As `ArtifactStore.update`.
        """
        client = caller()
        artifact_id = self.pictures.artifact_of(image, field)
        try:
            found = await self.artifacts.look(client, artifact_id)
            if found.media_type not in _FORMATS or not found.width:
                rule = "Is no picture: it is neither PNG, JPEG nor WebP."
                raise InvalidPicture.at(field, Reason.IMAGE_UNREADABLE, rule)
            await self.artifacts.update(
                client,
                artifact_id,
                pinned=pinned,
                retention_seconds=retention_seconds,
                labels=LabelChange(labels),
            )
        except NotFound as error:
            error.metadata.setdefault("field", field)
            raise
        return ImageResult(
            image_index=0,
            seed=None,
            artifact_id=artifact_id,
            format=_FORMATS[found.media_type],
            width=found.width,
            height=found.height,
            size_bytes=found.size_bytes,
        )
