"""Pictures that several items of a batch name, prepared once."""

from __future__ import annotations

from domains.inference.ports import PicturePreparer
from domains.picture.core import KeptPicture
from domains.picture.types import Canvas, ControlPreprocessor, InputImage, ResizeFit


class SamePictures:
    """Prepares each picture once for each way of it: implements `PicturePreparer`.

    Args:
        pictures: Prepares them.
    """

    def __init__(self, pictures: PicturePreparer) -> None:
        self._pictures = pictures
        self._kept: dict[object, KeptPicture] = {}

    async def prepare(
        self,
        image: InputImage,
        field: str,
        canvas: Canvas,
        fit: ResizeFit,
        *,
        control: ControlPreprocessor | None = None,
        grey: bool = False,
    ) -> KeptPicture:
        """See `PicturePreparer`."""
        key = image, canvas, fit, control, grey
        if key not in self._kept:
            self._kept[key] = await self._pictures.prepare(
                image, field, canvas, fit, control=control, grey=grey
            )
        return self._kept[key]
