"""Finished pictures from a worker to where they are kept."""

from __future__ import annotations

from domains.provenance.core.marking import Provenance
from domains.provenance.types import Made
from domains.session.core.items import SessionItem
from domains.session.jobs import SpooledImage
from domains.session.ports import ArtifactKeeper
from domains.values import OutputSettings, Toggle


class Keeping:
    """Has finished pictures signed and kept, and only then told.

    Args:
        provenance: Signs them.
        artifacts: Takes them.
    """

    def __init__(self, provenance: Provenance, artifacts: ArtifactKeeper) -> None:
        self._provenance, self._artifacts = provenance, artifacts

    async def keep(
        self, spooled: SpooledImage, item: SessionItem, output: OutputSettings, made: Made
    ) -> None:
        """Keep a picture of an item; one that is withheld is told alone.

        Args:
            spooled: As its worker made it.
            item: Whose it is.
            output: Whether it gets a manifest, and how long it is kept.
            made: How it was made, for the manifest.

        Raises:
            SigningUnavailable: It cannot be signed.
            DomainError: The artifact store does not take it.
        """
        if spooled.path is None:
            item.finish_image(spooled.image)
            return
        if output.provenance.manifest is Toggle.ON:
            spooled = await self._provenance.sign(spooled, made)
        image, session = spooled.image, item.session
        assert spooled.path is not None
        await self._artifacts.adopt(
            spooled.path,
            image.artifact_id,
            session.owner,
            session_id=session.session_id,
            retention_seconds=output.retention,
        )
        item.finish_image(image)
