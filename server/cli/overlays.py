"""How an item of a batch differs from the template, by paths of fields."""

from __future__ import annotations

from collections.abc import Iterable

from deviceops.v1 import generation_pb2
from server.cli.choices import UnusableOptions
from server.cli.field_values import Picture, put


def overlay(
    template: generation_pb2.GenerationSettings,
    values: Iterable[tuple[str, str]],
    picture: Picture,
    where: str,
) -> generation_pb2.GenerationOverlay:
    """What makes the template into one in which every field of `values` has its value.

    An overlay replaces a message or a list whole. So `guidance.scale` takes the rest of the
    template's `guidance` along; only what a path names is different.

    Args:
        template: Is not changed.
        values: Paths of fields and what they get, as `--set` takes both.
        picture: Makes a picture of what a person calls it.
        where: What an error says before the path.

    Raises:
        UnusableOptions: There is no such field, or it cannot hold the value.
    """
    changed = generation_pb2.GenerationSettings()
    changed.CopyFrom(template)
    made = generation_pb2.GenerationOverlay()
    names = dict[str, None]()
    for path, text in values:
        try:
            put(changed, path, text, picture)
        except UnusableOptions as error:
            raise UnusableOptions(f"{where}{path}: {error}") from error
        names[path.strip().partition(".")[0]] = None
    for field, value in changed.ListFields():
        if field.name not in names:
            continue
        del names[field.name]
        if field.is_repeated:
            getattr(made.settings, field.name).extend(value)
        elif field.message_type is not None:
            getattr(made.settings, field.name).CopyFrom(value)
        else:
            setattr(made.settings, field.name, value)
    made.cleared_fields.paths.extend(names)  # a list that was made empty
    return made
