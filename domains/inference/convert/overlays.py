"""Settings laid over one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

from deviceops.v1 import generation_pb2
from domains import checks
from domains.errors import FieldViolation, Reason
from domains.limits import LIMITS

# Either stands for the other.
_SEEDS = ("seed", "seeds")
_ONE_SETTING = dict.fromkeys(_SEEDS, _SEEDS) | dict.fromkeys(
    ("image_to_image", "inpainting"), ("image_to_image", "inpainting")
)


@dataclass(frozen=True)
class Layer:
    """An overlay, and where it stands in the request."""

    overlay: generation_pb2.GenerationOverlay
    path: str


def laid_over(
    template: generation_pb2.GenerationSettings, layers: Sequence[Layer]
) -> tuple[generation_pb2.GenerationSettings, Mapping[str, str]]:
    """The template under every layer, the last one uppermost, and where settings that are not
    the template's were set, by field."""
    settings, origins = generation_pb2.GenerationSettings(), dict[str, str]()
    settings.CopyFrom(template)
    fields = cast(Any, settings)  # its stub knows the fields' names, which come as text here
    for layer in layers:
        for name in layer.overlay.cleared_fields.paths:
            fields.ClearField(name)
            origins[name] = f"{layer.path}.cleared_fields"
        for field, _ in layer.overlay.settings.ListFields():
            for name in _ONE_SETTING.get(field.name, (field.name,)):
                fields.ClearField(name)
                origins[name] = f"{layer.path}.settings"
        settings.MergeFrom(layer.overlay.settings)
    return settings, origins


def combinations(
    matrix: generation_pb2.GenerationMatrix, path: str
) -> Iterator[tuple[str, int, tuple[Layer, ...]]]:
    """Every combination with the name of its item and its run; the last axis and then the run
    change fastest."""
    runs = _runs(matrix)
    axes = [
        [
            (str(at), Layer(value, f"{path}.axes[{number}].values[{at}]"))
            for at, value in enumerate(axis.values)
        ]
        for number, axis in enumerate(matrix.axes)
    ]
    for chosen in product(*axes):
        places = [place for place, _ in chosen]
        for run in range(runs):
            named = places + ([str(run)] if runs > 1 or not places else [])
            yield "-".join(named), run, tuple(layer for _, layer in chosen)


def check_matrix(
    matrix: generation_pb2.GenerationMatrix, path: str, most: int
) -> list[FieldViolation]:
    """What is wrong with a matrix whose items may be `most` at most."""
    axes, runs = LIMITS["GenerationMatrix.axes"], LIMITS["GenerationMatrix.runs"]
    values = LIMITS["MatrixAxis.values"]
    found = [checks.elements(f"{path}.axes", len(matrix.axes), axes)]
    if matrix.HasField("runs"):
        found.append(checks.number(f"{path}.runs", matrix.runs, runs))
    count = _runs(matrix)
    for number, axis in enumerate(matrix.axes[: axes.max_elements]):
        field = f"{path}.axes[{number}].values"
        found.append(checks.elements(field, len(axis.values), values))
        count *= len(axis.values)
    broken = [each for each in found if each is not None]
    if not broken and count > most:
        rule = f"Makes {count} items; {most} at most."
        broken.append(FieldViolation(path, Reason.TOO_MANY_ELEMENTS, rule))
    for number, axis in enumerate(() if broken else matrix.axes):
        for at, value in enumerate(axis.values):
            broken += check_overlay(value, f"{path}.axes[{number}].values[{at}]")
    return broken


def check_overlay(
    overlay: generation_pb2.GenerationOverlay, path: str
) -> Iterator[FieldViolation]:
    """What is wrong with the fields that an overlay clears."""
    field, names = f"{path}.cleared_fields", list(overlay.cleared_fields.paths)
    limit = LIMITS["GenerationOverlay.cleared_fields"]
    if too_many := checks.elements(field, len(names), limit):
        yield too_many
        return
    known = generation_pb2.GenerationSettings.DESCRIPTOR.fields_by_name
    own = {each.name for each, _ in overlay.settings.ListFields()}
    for at, name in enumerate(names):
        if name not in known:
            rule = "Must be the name of a field of GenerationSettings, such as negative_prompt."
            yield FieldViolation(f"{field}[{at}]", Reason.UNKNOWN_FIELD, rule)
        elif name in own:
            rule = f"Clears {name}, which this overlay sets; do one of both."
            yield FieldViolation(f"{field}[{at}]", Reason.FIELDS_CONFLICT, rule)


def _runs(matrix: generation_pb2.GenerationMatrix) -> int:
    return matrix.runs if matrix.HasField("runs") else 1
