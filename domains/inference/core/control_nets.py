"""ControlNets of a generation: their rules, and their pictures before the work is accepted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from domains import checks
from domains.errors import FieldViolation, Reason
from domains.inference.core.companions import Companions
from domains.inference.core.plain_rules import found, plain
from domains.inference.jobs import ControlPictures
from domains.inference.ports import PicturePreparer
from domains.inference.types import (
    ControlInput,
    ControlNetGuidance,
    GenerationRequest,
    GenerationSettings,
)
from domains.limits import LIMITS, default_of
from domains.picture.core import KeptPicture, check_image, check_preprocessor
from domains.picture.types import GREY, Canvas, ControlPreprocessor, InputImage
from domains.values import PROMAX, listed_types, types_of

_FIELD = "control_nets"
_ONE = int(default_of("GenerationSettings.image_count"))


@dataclass(frozen=True)
class PreparedControls:
    """Settings that tell which pictures were used, the pictures for the job, and what keeps
    their files."""

    settings: GenerationSettings
    pictures: tuple[ControlPictures, ...]
    kept: tuple[KeptPicture, ...]


def check_control_nets(request: GenerationRequest, path: str) -> Iterator[FieldViolation]:
    """Every rule that a request's ControlNets break, whatever they are; `path` is where its
    settings stand."""
    settings = request.settings
    limit = LIMITS[f"GenerationSettings.{_FIELD}"]
    yield from found(checks.elements(f"{path}.{_FIELD}", len(settings.control_nets), limit))
    pairs = zip(settings.control_nets, request.controls, strict=True)
    for index, (net, pictures) in enumerate(pairs):
        field = f"{path}.{_FIELD}[{index}]"
        yield from _check(net, field)
        yield from _check_pictures(pictures, settings, field)
        if net.guess_mode and not settings.guidance.guided:
            yield FieldViolation(
                f"{field}.guess_mode",
                Reason.FIELDS_CONFLICT,
                "Needs a guidance scale above 1: it works by the difference that guidance "
                "makes.",
            )


def check_control_types(
    settings: GenerationSettings, companions: Companions, path: str
) -> Iterator[FieldViolation]:
    """Refuse unions that are not told what they take a picture for, or are told what they do
    not know, and other ControlNets that are told so."""
    for index, net in enumerate(settings.control_nets):
        found = companions.by_field[f"{_FIELD}[{index}].model_id"]
        field = f"{path}.{_FIELD}[{index}].control_type"
        types, wanted = types_of(found.kind), net.control_type
        if wanted is None and types:
            yield FieldViolation(
                field,
                Reason.REQUIRED_FIELD_MISSING,
                f"{found.model_id} is a {found.kind}: must be what it takes the picture for, "
                f"one of {listed_types(types)}.",
            )
        elif wanted is not None and not types:
            yield FieldViolation(
                field,
                Reason.FIELDS_CONFLICT,
                f"{found.model_id} is no union of ControlNets and has one purpose; leave "
                f"{wanted.name} out, or choose a union.",
            )
        elif wanted is not None and wanted not in types:
            yield FieldViolation(
                field,
                Reason.FIELDS_CONFLICT,
                f"{found.model_id} is a {found.kind}, which does not know {wanted.name}; must "
                f"be one of {listed_types(types)}, or choose a {PROMAX}.",
            )


async def prepare_controls(
    pictures: PicturePreparer, request: GenerationRequest, settings: GenerationSettings
) -> PreparedControls:
    """Have every control picture decoded in each size that is drawn: what a second pass follows
    is made of the original again, so that its edges are as sharp.

    Args:
        pictures: Prepares them.
        request: Names them.
        settings: Its own, resolved.

    Raises:
        DomainError: As `PicturePreparer.prepare`, by field.
    """
    sizes = tuple(dict.fromkeys(each.size for each in settings.passes))
    kept: list[KeptPicture] = []

    async def prepare(
        image: InputImage, field: str, net: ControlNetGuidance, how: ControlPreprocessor | None
    ) -> list[KeptPicture]:
        made = [
            await pictures.prepare(image, field, Canvas(*size), net.fit, control=how)
            for size in sizes
        ]
        kept.extend(made)
        return made

    nets, controls = [], []
    pairs = zip(settings.control_nets, request.controls, strict=True)
    for index, (net, named) in enumerate(pairs):
        field = f"settings.{_FIELD}[{index}]"
        single = mask = None
        if named.image is not None:
            single = await prepare(named.image, f"{field}.image", net, net.preprocessor)
        many = [
            await prepare(image, f"{field}.images[{k}]", net, net.preprocessor)
            for k, image in enumerate(named.images)
        ]
        if named.mask is not None:
            mask = await prepare(named.mask, f"{field}.mask", net, GREY)
        nets.append(
            replace(
                net,
                image=None if single is None else single[0].file,
                images=tuple(each[0].file for each in many),
                mask=None if mask is None else mask[0].file,
            )
        )
        controls.append(_of_sizes([single] if single else many, mask))
    return PreparedControls(
        replace(settings, control_nets=tuple(nets)), tuple(controls), tuple(kept)
    )


def _of_sizes(
    images: list[list[KeptPicture]], mask: list[KeptPicture] | None
) -> ControlPictures:
    """A ControlNet's pictures, each of which was made in the same sizes."""
    found = [
        ControlPictures(
            tuple(each[k].prepared for each in images),
            None if mask is None else mask[k].prepared,
        )
        for k in range(len(images[0]))
    ]
    return replace(found[0], larger=found[1]) if len(found) > 1 else found[0]


def _check(net: ControlNetGuidance, field: str) -> Iterator[FieldViolation]:
    yield from plain(net, "ControlNetGuidance", field)
    if net.end < net.start:
        yield FieldViolation(
            f"{field}.end", Reason.FIELDS_CONFLICT, "Must not be before start."
        )
    if net.preprocessor is not None:
        yield from check_preprocessor(net.preprocessor, f"{field}.preprocessor")


def _check_pictures(
    pictures: ControlInput, settings: GenerationSettings, field: str
) -> Iterator[FieldViolation]:
    limit = LIMITS["ControlNetGuidance.images"]
    yield from found(checks.elements(f"{field}.images", len(pictures.images), limit))
    if pictures.image is not None and pictures.images:
        yield FieldViolation(
            f"{field}.images", Reason.FIELDS_CONFLICT, "Set image or images, not both."
        )
    named = {"image": pictures.image, "mask": pictures.mask} | {
        f"images[{index}]": image for index, image in enumerate(pictures.images)
    }
    for name, image in named.items():
        if image is not None:
            yield from check_image(image, f"{field}.{name}")
    if pictures.image is None and not pictures.images:
        yield FieldViolation(
            f"{field}.image",
            Reason.REQUIRED_FIELD_MISSING,
            "Must hold the control picture, or images one for each picture drawn.",
        )
    count = len(settings.seeds) or settings.image_count or _ONE
    if pictures.images and len(pictures.images) != count:
        yield FieldViolation(
            f"{field}.images",
            Reason.FIELDS_CONFLICT,
            f"Must have one picture for each that is drawn: {count}.",
        )
