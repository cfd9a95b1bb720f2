"""Items of a session: parts of its work with pictures of their own."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from domains.session.core.session import Session
from domains.session.types import ImageResult, ProgressEvent, counted_on


@dataclass(frozen=True)
class SessionItem:
    """A part of a session's work, by the client's name for it; "" is all of it.

    The work counts its pictures from 0, and the session those of all items: `first_image` is
    this one's first.
    """

    session: Session
    item_id: str = ""
    first_image: int = 0

    @property
    def images(self) -> tuple[ImageResult, ...]:
        """Its finished pictures, as the session has them."""
        return tuple(one for one in self.session.images if one.item_id == self.item_id)

    def record(self, event: ProgressEvent) -> None:
        """Note progress of this item."""
        self.session.record(counted_on(event, self.first_image), self.item_id)

    def finish_image(self, image: ImageResult) -> None:
        """A picture of it is kept."""
        index = image.image_index + self.first_image
        self.session.finish_image(replace(image, image_index=index, item_id=self.item_id))
