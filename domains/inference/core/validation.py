"""The rules a generation's content must keep; every broken one is listed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from domains import checks
from domains.chain.core.rules import check_chain
from domains.codec import Value
from domains.device.core.placement import check_placement
from domains.errors import FieldViolation, Reason
from domains.inference.core.combinations import NOT_SDXL
from domains.inference.core.control_nets import check_control_nets
from domains.inference.core.image_prompts import check_image_prompts
from domains.inference.core.plain_rules import found, plain
from domains.inference.core.prompt_syntax import check_weights
from domains.inference.core.refiner_rules import check_refiner
from domains.inference.core.sampling_rules import check_sampling
from domains.inference.core.second_pass import check_second_pass, leaves_a_step
from domains.inference.types import (
    GenerationRequest,
    GenerationSettings,
    LoraWeight,
    SdxlSettings,
    SeedVariation,
    SizeConditioning,
)
from domains.limits import LIMITS
from domains.model.types import Model
from domains.picture.core import check_image
from domains.session.core.options import check_delivery, check_options
from domains.values import OutputSettings, SourceMetadata

_CHAIN = LIMITS["GenerateRequest.postprocessing"]
MAX_SEED = int(LIMITS["GenerationSettings.seed"].maximum or 0)


def check_request(request: GenerationRequest) -> list[FieldViolation]:
    """Every rule `request` breaks, by field; an empty list when it breaks none."""
    violations = list(check_options(request.options, "options"))
    violations += check_settings(request.settings, "settings")
    violations += _pictures(request, "settings")
    violations += _masked(request, "settings.inpainting.mask")
    violations += check_control_nets(request, "settings")
    violations += check_image_prompts(request, "settings")
    violations += check_delivery(request.delivery, "delivery")
    violations += check_chain(request.chain, "postprocessing", _CHAIN)
    violations += check_placement(request.placement, "placement.")
    return violations


def check_settings(settings: GenerationSettings, path: str) -> list[FieldViolation]:
    """Every rule `settings` breaks; `path` is where they stand in the request."""
    return [
        *plain(settings, "GenerationSettings", path),
        *check_sampling(settings, path),
        *_sdxl(settings.sdxl, f"{path}.sdxl"),
        *check_refiner(settings, f"{path}.sdxl.refiner"),
        *plain(settings.output, "OutputSettings", f"{path}.output"),
        *_metadata(settings.output, f"{path}.output.source_metadata"),
        *check_weights(settings, path),
        *_seeds(settings, path),
        *check_lora_weights(settings.loras, f"{path}.loras"),
        *_embeddings(settings, f"{path}.embedding_model_ids"),
        *_start(settings, path),
        *check_second_pass(settings, f"{path}.second_pass"),
        *_variation(settings.variation, f"{path}.variation"),
    ]


def _metadata(output: OutputSettings, field: str) -> list[FieldViolation]:
    if output.source_metadata is SourceMetadata.DISCARD:
        return []
    rule = "A generation has no source whose metadata it could keep; leave it out."
    return [FieldViolation(field, Reason.FIELDS_CONFLICT, rule)]


def check_model(settings: GenerationSettings, model: Model, path: str) -> list[FieldViolation]:
    """Rules that depend on which model the request comes to use."""
    violations = []
    if settings.sdxl is not None and not model.reads_second_prompt:
        violations.append(FieldViolation(f"{path}.sdxl", Reason.FIELDS_CONFLICT, NOT_SDXL))
    if model.lacks_vae and not settings.vae_model_id:
        violations.append(
            FieldViolation(
                f"{path}.vae_model_id",
                Reason.REQUIRED_FIELD_MISSING,
                f"{model.model_id} has no VAE of its own: name one that goes with it here, or "
                "choose a model that has one.",
            )
        )
    if model.inpainting and settings.inpainting is None:
        violations.append(
            FieldViolation(
                f"{path}.model_id",
                Reason.FIELDS_CONFLICT,
                f"{model.model_id} fills in the masked part of a picture: set inpainting, or "
                "choose a model that draws from text.",
            )
        )
    return violations


def check_lora_weights(loras: Sequence[LoraWeight], path: str) -> Iterator[FieldViolation]:
    """Rules that LoRAs must keep whatever they are."""
    yield from found(checks.elements(path, len(loras), LIMITS["GenerationSettings.loras"]))
    seen: dict[str, int] = {}
    for index, lora in enumerate(loras):
        yield from plain(lora, "LoraWeight", f"{path}[{index}]")
        first = seen.setdefault(lora.model_id, index)
        if first != index:
            yield FieldViolation(
                f"{path}[{index}].model_id",
                Reason.FIELDS_CONFLICT,
                f"Names the same LoRA as loras[{first}]; name it once, with the sum of both "
                "weights.",
            )


def _embeddings(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    ids = settings.embedding_model_ids
    limit = LIMITS["GenerationSettings.embedding_model_ids"]
    yield from found(checks.elements(path, len(ids), limit))
    for index, model_id in enumerate(ids):
        yield from found(checks.required(f"{path}[{index}]", model_id))


def _sdxl(settings: SdxlSettings | None, path: str) -> Iterator[FieldViolation]:
    """Texts, and the sizes that the model is told."""
    yield from plain(settings, "SdxlSettings", path)
    for name in ("size", "negative_size"):
        sizes: SizeConditioning | None = getattr(settings, name, None)
        for part in () if sizes is None else sizes.__struct_fields__:
            value: Value | None = getattr(sizes, part)
            yield from plain(value, type(value).__name__, f"{path}.{name}.{part}")


def _start(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    """What a picture to start from goes with, and the strength, which has to leave a step."""
    inpainting = settings.inpainting
    field = f"{path}.{'inpainting' if inpainting else 'image_to_image'}"
    broken = [
        *plain(settings.image_to_image, "ImageToImage", field),
        *plain(inpainting, "Inpainting", field),
    ]
    if inpainting is not None:
        broken += plain(inpainting.margins, "OutpaintingMargins", f"{field}.margins")
    yield from broken
    if settings.start is not None and not broken:
        yield from leaves_a_step(settings.start.strength, settings.steps, field)


def _variation(variation: SeedVariation | None, path: str) -> Iterator[FieldViolation]:
    yield from plain(variation, "SeedVariation", path)
    if variation is not None:
        limit = LIMITS["SeedVariation.seed"]
        yield from found(
            checks.number(f"{path}.seed", variation.seed, limit, reason=Reason.SEED_INVALID)
        )


def _pictures(request: GenerationRequest, path: str) -> Iterator[FieldViolation]:
    """What names the pictures that a generation starts from."""
    field = f"{path}.{'inpainting' if request.settings.inpainting else 'image_to_image'}"
    for name, image in (("image", request.image), ("mask", request.mask)):
        if image is not None:
            yield from check_image(image, f"{field}.{name}")


def _masked(request: GenerationRequest, field: str) -> Iterator[FieldViolation]:
    """Whether it is said what is redrawn."""
    inpainting = request.settings.inpainting
    if inpainting is not None and request.mask is None and not inpainting.margins:
        rule = "Must be set where there are no margins to redraw."
        yield FieldViolation(field, Reason.REQUIRED_FIELD_MISSING, rule)


def _seeds(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    limit = LIMITS["GenerationSettings.seed"]
    given = [(f"{path}.seed", settings.seed)] if settings.seed is not None else []
    given += [(f"{path}.seeds[{k}]", seed) for k, seed in enumerate(settings.seeds)]
    for field, seed in given:
        if seed is not None:
            yield from found(checks.number(field, seed, limit, reason=Reason.SEED_INVALID))
    if settings.seed is not None and settings.seeds:
        yield FieldViolation(
            f"{path}.seeds", Reason.FIELDS_CONFLICT, "Set seed or seeds, not both."
        )
    yield from found(
        checks.elements(
            f"{path}.seeds", len(settings.seeds), LIMITS["GenerationSettings.seeds"]
        )
    )
    count = settings.image_count
    if settings.seeds and count is not None and count != len(settings.seeds):
        yield FieldViolation(
            f"{path}.seeds",
            Reason.SEED_INVALID,
            f"Must have one seed for each of image_count pictures: {count}.",
        )
