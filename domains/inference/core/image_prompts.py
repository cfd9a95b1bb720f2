"""Image prompts of a generation: their rules, what reads their pictures, and those pictures
before the work is accepted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from msgspec.structs import replace

from domains import checks
from domains.errors import FailedPrecondition, FieldViolation, Reason
from domains.inference.core.companions import Companions, held_against
from domains.inference.core.plain_rules import found, plain
from domains.inference.errors import InvalidGeneration
from domains.inference.jobs import ImagePromptPictures
from domains.inference.ports import ImagePromptFits, Models, PicturePreparer
from domains.inference.types import (
    GenerationRequest,
    GenerationSettings,
    ImagePrompt,
    ImagePromptInput,
)
from domains.limits import LIMITS
from domains.model.types import Model, ModelType
from domains.picture.core import KeptPicture, check_image
from domains.picture.types import GREY, OWN_SIZE, Canvas, ResizeFit

# Of all pictures of a request, each of which lies decoded on disk until it is read.
_MOST_PIXELS = 128 << 20
_FIELD = "image_prompts"
_ENCODER = "image_encoder_model_id"


@dataclass(frozen=True)
class PreparedImagePrompts:
    """Settings that tell which pictures were used, the pictures for the job, and what keeps
    their files."""

    settings: GenerationSettings
    pictures: tuple[ImagePromptPictures, ...]
    kept: tuple[KeptPicture, ...]


def check_image_prompts(request: GenerationRequest, path: str) -> Iterator[FieldViolation]:
    """Every rule that a request's image prompts break, whatever they are; `path` is where its
    settings stand."""
    prompts = request.settings.image_prompts
    limit = LIMITS[f"GenerationSettings.{_FIELD}"]
    yield from found(checks.elements(f"{path}.{_FIELD}", len(prompts), limit))
    for index, (prompt, named) in enumerate(zip(prompts, request.image_prompts, strict=True)):
        field = f"{path}.{_FIELD}[{index}]"
        yield from found(checks.required(f"{field}.model_id", prompt.model_id))
        yield from plain(prompt, "ImagePrompt", field)
        if prompt.end < prompt.start:
            yield FieldViolation(
                f"{field}.end", Reason.FIELDS_CONFLICT, "Must not be before start."
            )
        yield from _check_pictures(named, field)


def _check_pictures(named: ImagePromptInput, field: str) -> Iterator[FieldViolation]:
    limit = LIMITS["ImagePrompt.images"]
    yield from found(checks.elements(f"{field}.images", len(named.images), limit))
    yield from found(checks.required(f"{field}.images", named.images))
    for index, image in enumerate(named.images):
        yield from check_image(image, f"{field}.images[{index}]")
    if named.mask is not None:
        yield from check_image(named.mask, f"{field}.mask")


async def with_image_encoders(
    settings: GenerationSettings,
    companions: Companions,
    model: Model,
    models: Models,
    fits: ImagePromptFits,
    path: str,
) -> tuple[GenerationSettings, Companions]:
    """The settings with an image encoder named for every image prompt, and the companions with
    those that were chosen.

    Args:
        settings: Name companions by the catalogue's ids.
        companions: Theirs, for the checkpoint's architecture.
        model: The checkpoint.
        models: Has the encoders of which one is chosen, where a prompt names none.
        fits: Holds the adapters against checkpoint and encoders.
        path: Where the settings stand in the request.

    Raises:
        InvalidGeneration: An encoder gives another width than its adapter takes; or none is
            named, and none or several would do.
        DomainError: As `fits`, with the metadata `field`.
    """
    violations: list[FieldViolation] = []
    prompts, chosen = list[ImagePrompt](), dict[str, Model]()
    encoders = await models.of_type(ModelType.IMAGE_ENCODER) if settings.image_prompts else ()
    encoders = tuple(sorted(encoders, key=lambda encoder: encoder.model_id))
    for index, prompt in enumerate(settings.image_prompts):
        name, encoder_name = f"{_FIELD}[{index}].model_id", f"{_FIELD}[{index}].{_ENCODER}"
        adapter, field = companions.by_field[name], f"{path}.{encoder_name}"
        await held_against(f"{path}.{name}", fits.check, adapter, model)
        named = companions.by_field.get(encoder_name)
        reading = await _reading(field, fits, adapter, named, encoders)
        if len(reading) == 1:
            chosen[encoder_name] = reading[0]
            prompts.append(replace(prompt, image_encoder_model_id=reading[0].model_id))
        elif named is not None:
            violations.append(
                FieldViolation(
                    field,
                    Reason.FIELDS_CONFLICT,
                    f"{named.model_id} gives embeddings of another width than "
                    f"{adapter.model_id} takes; leave it out, or name another image encoder.",
                )
            )
        else:
            rule = _left_open(adapter, reading, encoders)
            violations.append(FieldViolation(field, Reason.REQUIRED_FIELD_MISSING, rule))
    if violations:
        raise InvalidGeneration.of(*violations)
    named_all = replace(settings, image_prompts=tuple(prompts))
    return named_all, Companions({**companions.by_field, **chosen})


async def _reading(
    field: str,
    fits: ImagePromptFits,
    adapter: Model,
    named: Model | None,
    encoders: Sequence[Model],
) -> list[Model]:
    """The encoders that read for an adapter: of the named one, or of all that can be judged."""
    if named is not None:
        return [named] if await held_against(field, fits.reads, adapter, named) else []
    found = []
    for encoder in encoders:
        with suppress(FailedPrecondition):  # a damaged one stands in nobody's way
            if await held_against(field, fits.reads, adapter, encoder):
                found.append(encoder)
    return found


def _left_open(adapter: Model, reading: Sequence[Model], encoders: Sequence[Model]) -> str:
    """Why it has to be said which encoder reads for an adapter."""
    if reading:
        return (
            f"Several image encoders read pictures for {adapter.model_id}; must be one of "
            f"{_listed(reading)}."
        )
    there = f"those at hand ({_listed(encoders)}) do not" if encoders else "there is none"
    return (
        f"No image encoder reads pictures for {adapter.model_id}: {there}. Put the one that it "
        "was published with into a model root."
    )


def _listed(models: Sequence[Model]) -> str:
    return ", ".join(model.model_id for model in models)


def _too_many_pixels(field: str) -> FieldViolation:
    return FieldViolation(
        field,
        Reason.IMAGE_TOO_LARGE,
        f"With it the pictures of all image prompts have more than {_MOST_PIXELS} pixels; make "
        "them smaller: an encoder sees some hundred pixels along an edge.",
    )


async def prepare_image_prompts(
    pictures: PicturePreparer, request: GenerationRequest, settings: GenerationSettings
) -> PreparedImagePrompts:
    """Have every picture of the image prompts decoded in its own size, which the encoder's
    preprocessing begins with, and every mask in each size that is drawn.

    Args:
        pictures: Prepares them.
        request: Names them.
        settings: Its own, resolved.

    Raises:
        InvalidGeneration: IMAGE_TOO_LARGE, where all pictures together are.
        DomainError: As `PicturePreparer.prepare`, by field.
    """
    sizes = tuple(dict.fromkeys(each.size for each in settings.passes))
    stretch = ResizeFit.STRETCH
    prompts: list[ImagePrompt] = []
    prepared: list[ImagePromptPictures] = []
    kept: list[KeptPicture] = []
    pixels = 0
    pairs = zip(settings.image_prompts, request.image_prompts, strict=True)
    for index, (prompt, named) in enumerate(pairs):
        field = f"settings.{_FIELD}[{index}]"
        images = []
        for k, image in enumerate(named.images):
            place = f"{field}.images[{k}]"
            images.append(await pictures.prepare(image, place, OWN_SIZE, stretch))
            pixels += images[-1].prepared.width * images[-1].prepared.height
            if pixels > _MOST_PIXELS:
                raise InvalidGeneration.of(_too_many_pixels(place))
        mask = named.mask
        masks = [
            await pictures.prepare(mask, f"{field}.mask", Canvas(*size), stretch, control=GREY)
            for size in sizes
            if mask is not None
        ]
        kept += images + masks
        prompts.append(
            replace(
                prompt,
                images=tuple(each.file for each in images),
                mask=masks[0].file if masks else None,
            )
        )
        prepared.append(
            ImagePromptPictures(
                tuple(each.prepared for each in images),
                tuple(each.prepared for each in masks),
            )
        )
    return PreparedImagePrompts(
        replace(settings, image_prompts=tuple(prompts)), tuple(prepared), tuple(kept)
    )
