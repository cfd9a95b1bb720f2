"""Image prompts, by the options of `generate`."""

from __future__ import annotations

from collections.abc import Sequence

from deviceops.v1 import generation_pb2
from server.cli.choices import UnusableOptions
from server.cli.field_values import Picture
from server.cli.named_pictures import NamedPicture, parse_named_picture

FORM = "ID:PICTURE[:SCALE[:START[:END]]]"
_OPTION = "--image-prompt"


def put_image_prompts(
    settings: generation_pb2.GenerationSettings, texts: Sequence[str], picture: Picture
) -> None:
    """Write what is asked for into the settings: a prompt for each adapter that is named, with
    all pictures that are named for it.

    Raises:
        UnusableOptions: An option is of another form, says of an adapter what another one says
            otherwise, or a picture cannot be read.
    """
    by_model: dict[str, list[NamedPicture]] = {}
    for text in texts:
        named = parse_named_picture(text, _OPTION, FORM)
        by_model.setdefault(named.model, []).append(named)
    if by_model:
        del settings.image_prompts[:]  # those of a picture that this one is to be like
    for model_id, pictures in by_model.items():
        scale, start, end = _numbers(model_id, pictures)
        settings.image_prompts.add(
            model_id=model_id,
            images=[picture(each.picture) for each in pictures],
            scale=scale,
            start=start,
            end=end,
        )


def _numbers(
    model_id: str, pictures: Sequence[NamedPicture]
) -> tuple[float | None, float | None, float | None]:
    """What is said of an adapter, with whichever of its pictures."""
    said = {each.numbers for each in pictures if each.scale is not None}
    if len(said) > 1:
        raise UnusableOptions(
            f"{_OPTION}: the pictures of {model_id} are one prompt, and SCALE, START and END "
            "are said of it in several ways; say them with one picture"
        )
    return next(iter(said), (None, None, None))
