"""What an inspector can be asked to do with a picture that nobody vouches for."""

from __future__ import annotations

from pathlib import Path

from domains.codec import Value
from domains.picture.types import Canvas, ResizeFit
from domains.session.jobs import Job
from domains.session.types import Edge


class PictureReport(Value, frozen=True):
    """The prepared picture's size, and the picture's own once it is upright, in pixels."""

    width: Edge
    height: Edge
    source_width: Edge
    source_height: Edge


class PictureJob(Job[PictureReport], frozen=True):
    """Decode the picture at `source`, bring it to the canvas, and write its pixels to
    `target`, as `PreparedPicture` has them."""

    source: Path
    target: Path
    canvas: Canvas
    fit: ResizeFit
