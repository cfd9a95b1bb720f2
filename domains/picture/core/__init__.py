"""Input pictures for work: looked up, decoded out of harm's way, kept while they are needed."""

from domains.picture.core.control_images import ControlImages, check_preprocessor
from domains.picture.core.files import Files, KeptFile
from domains.picture.core.pictures import KeptPicture, Pictures, check_image
from domains.picture.core.thumbnails import ThumbnailMaking

__all__ = [
    "ControlImages",
    "Files",
    "KeptFile",
    "KeptPicture",
    "Pictures",
    "ThumbnailMaking",
    "check_image",
    "check_preprocessor",
]
