"""What a generation starts from, by the options of `generate`."""

from __future__ import annotations

from dataclasses import dataclass

from deviceops.v1 import common_pb2, generation_pb2
from server.cli.choices import UnusableOptions, choose
from server.cli.field_values import Picture


@dataclass(frozen=True)
class StartOptions:
    """Without an `image` it is noise."""

    image: str | None = None
    strength: float | None = None
    fit: str | None = None


def put_start(
    settings: generation_pb2.GenerationSettings, options: StartOptions, picture: Picture
) -> None:
    """Write what is asked for into the settings.

    Raises:
        UnusableOptions: An option has nothing to be about, or a picture cannot be read.
    """
    if options.image is None:
        for option, value in (("--strength", options.strength), ("--fit", options.fit)):
            if value is not None:
                raise UnusableOptions(f"{option} is about a picture: name it with --image")
        return
    start = settings.image_to_image
    start.image.CopyFrom(picture(options.image))
    if options.strength is not None:
        start.strength = options.strength
    if options.fit is not None:
        start.fit = choose(common_pb2.ResizeFit, "RESIZE_FIT_", options.fit)
