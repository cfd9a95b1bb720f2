"""Which marks pictures get, and what is done so that they have them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

from msgspec.structs import replace

from domains.finishing import finished
from domains.provenance.errors import (
    INSTALL,
    InvalidProvenance,
    LibraryMissing,
    SignerRefused,
    SigningMissing,
    unavailable,
)
from domains.provenance.ports import MarkKeys, Signer
from domains.provenance.types import LEAST_EDGE, Made
from domains.session.jobs import SpooledImage
from domains.values import NO_MARKS, PictureMarks, ProvenanceWish, Toggle
from domains.whole_files import whole_file


def merged(server: PictureMarks, policy: PictureMarks, wish: ProvenanceWish) -> PictureMarks:
    """The marks that a picture gets: what a policy demands cannot be declined, beyond it the
    request decides, and the server where that does not."""

    def one(usual: bool, demanded: bool, asked: Toggle) -> bool:
        return demanded or (usual if asked is Toggle.SERVER else asked is Toggle.ON)

    return PictureMarks(
        one(server.manifest, policy.manifest, wish.manifest),
        one(server.watermark, policy.watermark, wish.watermark),
    )


class Provenance:
    """Decides on marks, and signs.

    Args:
        server: What pictures get of which nobody says otherwise.
        signer: Signs them.
        keys: What they are marked with.
    """

    def __init__(self, server: PictureMarks, signer: Signer, keys: MarkKeys) -> None:
        self._server = server
        self._signer = signer
        self._keys = keys

    @property
    def no_manifests(self) -> str:
        """Why manifests cannot be asked for here; empty where they can."""
        return "" if self._signer.installed else f"Needs a library: {INSTALL}."

    async def decide(
        self,
        wish: ProvenanceWish,
        size: tuple[int, int],
        field: str,
        policy: PictureMarks = NO_MARKS,
    ) -> PictureMarks:
        """The marks that a picture gets, each of which can be made.

        Args:
            wish: What a request says.
            size: Width and height of the finished picture in pixels.
            field: Where in the request the wish stands, or would.
            policy: What is demanded of it.

        Raises:
            InvalidProvenance: DIMENSIONS_INVALID: the picture is too small.
            SigningMissing: What signs is not installed; the metadata name the field.
            SigningUnavailable: The key cannot be used.
        """
        marks = merged(self._server, policy, wish)
        if marks.watermark and min(size) < LEAST_EDGE:
            raise InvalidProvenance.too_small(f"{field}.watermark", LEAST_EDGE)
        if marks.manifest:
            try:
                await asyncio.to_thread(self._signer.open)
            except LibraryMissing:
                raise SigningMissing(f"{field}.manifest") from None
            except SignerRefused as error:
                raise unavailable(error) from error
        return marks

    async def mark_key(self) -> str:
        """What workers mark pictures with.

        Raises:
            SigningUnavailable: It cannot be read or made.
        """
        try:
            return await asyncio.to_thread(self._keys.mark_key)
        except SignerRefused as error:
            raise unavailable(error) from error

    async def sign(self, spooled: SpooledImage, made: Made) -> SpooledImage:
        """A finished picture's file with a manifest in it, in the same place.

        Args:
            spooled: A complete file, this caller's own.
            made: How it was made.

        Raises:
            SigningUnavailable: It cannot be signed; the file is gone.
        """
        assert spooled.path is not None, "what is withheld has no file to sign"
        try:
            return await finished(asyncio.to_thread(self._sign, spooled, made))
        except (SignerRefused, OSError) as error:
            with contextlib.suppress(OSError):  # the same disk may not let go of it either
                await asyncio.to_thread(spooled.path.unlink, missing_ok=True)
            raise unavailable(error) from error

    def _sign(self, spooled: SpooledImage, made: Made) -> SpooledImage:
        image = spooled.image
        assert spooled.path is not None
        data = self._signer.sign(spooled.path.read_bytes(), image.format, made)
        with whole_file(spooled.path, synced=False) as file:  # who keeps it syncs it
            file.write(data)
        return SpooledImage(
            replace(
                image,
                artifact_id=hashlib.sha256(data).hexdigest(),
                size_bytes=len(data),
                provenance=replace(image.provenance, manifest=True),
            ),
            spooled.path,
        )

    async def start(self) -> None:
        """Have ready what pictures need of which nobody says otherwise.

        Raises:
            SignerRefused: They cannot be signed or marked; the text says what to do.
        """
        if self._server.manifest:
            await asyncio.to_thread(self._signer.open)
        if self._server.watermark:
            await asyncio.to_thread(self._keys.mark_key)
