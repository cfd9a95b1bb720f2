"""Input pictures for work: looked up, decoded out of harm's way, kept while they are needed."""

from domains.picture.core.pictures import KeptPicture, Pictures

__all__ = ["KeptPicture", "Pictures"]
