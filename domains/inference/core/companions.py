"""The models that settings name beside their checkpoint: found, and held against it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace

from domains.errors import DomainError, FieldViolation, Reason
from domains.inference.jobs import Companion
from domains.inference.ports import LoraFits, Models
from domains.inference.types import (
    GenerationSettings,
    ImagePrompt,
    SdxlSettings,
    SecondPass,
)
from domains.model.types import Model, ModelType

T = TypeVar("T")
_NOUNS: dict[ModelType | None, str] = {
    ModelType.LORA: "a LoRA",
    ModelType.VAE: "a VAE",
    ModelType.REFINER: "a refiner",
    ModelType.CHECKPOINT: "a checkpoint",
    ModelType.EMBEDDING: "an embedding",
    ModelType.CONTROL_NET: "a ControlNet",
    ModelType.UPSCALER: "an upscaler",
    ModelType.IMAGE_PROMPT_ADAPTER: "an IP-Adapter",
    ModelType.IMAGE_ENCODER: "an image encoder",
}
REFINER_FIELD = "sdxl.refiner.model_id"
UPSCALER_FIELD = "second_pass.postprocessor_id"


@dataclass(frozen=True)
class Named:
    """A model that settings name: in which field, and of which type it has to be.

    `or_type` is another type that does as well.
    """

    field: str
    model_id: str
    type: ModelType
    or_type: ModelType | None = None


def visit(settings: GenerationSettings, visitor: Callable[[Named], str]) -> GenerationSettings:
    """The settings with the model ids that `visitor` gives for those they name.

    The one place that knows which fields name models.
    """
    vae = settings.vae_model_id
    return replace(
        settings,
        sdxl=_visit_sdxl(settings.sdxl, visitor),
        second_pass=_visit_second_pass(settings.second_pass, visitor),
        vae_model_id=visitor(Named("vae_model_id", vae, ModelType.VAE)) if vae else "",
        loras=tuple(
            replace(
                lora,
                model_id=visitor(
                    Named(f"loras[{index}].model_id", lora.model_id, ModelType.LORA)
                ),
            )
            for index, lora in enumerate(settings.loras)
        ),
        embedding_model_ids=tuple(
            visitor(Named(f"embedding_model_ids[{index}]", each, ModelType.EMBEDDING))
            for index, each in enumerate(settings.embedding_model_ids)
        ),
        control_nets=tuple(
            replace(
                net,
                model_id=visitor(
                    Named(
                        f"control_nets[{index}].model_id", net.model_id, ModelType.CONTROL_NET
                    )
                ),
            )
            for index, net in enumerate(settings.control_nets)
        ),
        image_prompts=tuple(
            _visit_image_prompt(prompt, f"image_prompts[{index}]", visitor)
            for index, prompt in enumerate(settings.image_prompts)
        ),
    )


def _visit_image_prompt(
    prompt: ImagePrompt, field: str, visitor: Callable[[Named], str]
) -> ImagePrompt:
    adapter, encoder = prompt.model_id, prompt.image_encoder_model_id
    named = Named(f"{field}.image_encoder_model_id", encoder, ModelType.IMAGE_ENCODER)
    return replace(
        prompt,
        model_id=visitor(Named(f"{field}.model_id", adapter, ModelType.IMAGE_PROMPT_ADAPTER)),
        image_encoder_model_id=visitor(named) if encoder else "",
    )


def _visit_sdxl(
    sdxl: SdxlSettings | None, visitor: Callable[[Named], str]
) -> SdxlSettings | None:
    if sdxl is None or sdxl.refiner is None:
        return sdxl
    refiner = Named(
        REFINER_FIELD, sdxl.refiner.model_id, ModelType.REFINER, ModelType.CHECKPOINT
    )
    return replace(sdxl, refiner=replace(sdxl.refiner, model_id=visitor(refiner)))


def _visit_second_pass(
    again: SecondPass | None, visitor: Callable[[Named], str]
) -> SecondPass | None:
    if again is None or not again.postprocessor_id:
        return again
    upscaler = Named(UPSCALER_FIELD, again.postprocessor_id, ModelType.UPSCALER)
    return replace(again, postprocessor_id=visitor(upscaler))


@dataclass(frozen=True)
class Companions:
    """The models that settings name, by field in the order of the settings."""

    by_field: Mapping[str, Model]

    @property
    def refiner(self) -> Model | None:
        """The refiner."""
        return self.by_field.get(REFINER_FIELD)

    @property
    def upscaler(self) -> Model | None:
        """What enlarges pictures for their second pass."""
        return self.by_field.get(UPSCALER_FIELD)

    @property
    def models(self) -> tuple[Model, ...]:
        """Each once."""
        return tuple({model.model_id: model for model in self.by_field.values()}.values())

    @property
    def model_ids(self) -> tuple[str, ...]:
        """Theirs."""
        return tuple(model.model_id for model in self.models)

    @property
    def trigger_words(self) -> tuple[str, ...]:
        """What embeddings among them stand for in prompts."""
        return tuple(word for model in self.models for word in words_of(model))

    def named_in(self, settings: GenerationSettings) -> GenerationSettings:
        """The settings with the catalogue's ids instead of other names."""
        return visit(settings, lambda named: self.by_field[named.field].model_id)

    def for_job(self) -> tuple[Companion, ...]:
        """What a worker has to know of them."""
        return tuple(
            Companion(model.model_id, model.type, model.place, trigger_words=words_of(model))
            for model in self.models
            if model.type is not None
        )


def words_of(model: Model) -> tuple[str, ...]:
    """What an embedding's vectors stand for in prompts: its trigger words, or its id; nothing
    for models of other types."""
    if model.type is not ModelType.EMBEDDING:
        return ()
    return tuple(word for word in model.trigger_words if word.strip()) or (model.model_id,)


async def find(models: Models, settings: GenerationSettings, path: str) -> Companions:
    """Look up every model that settings name; `path` is where they stand in the request.

    Raises:
        DomainError: As `Models.resolve`, with the metadata `field`.
    """
    named: list[Named] = []

    def note(each: Named) -> str:
        named.append(each)
        return each.model_id

    visit(settings, note)
    found: dict[str, Model] = {}
    for each in named:
        found[each.field] = await look_up(
            models, each.model_id, f"{path}.{each.field}", type=each.type, or_type=each.or_type
        )
    return Companions(found)


async def look_up(
    models: Models,
    model_id: str,
    field: str,
    *,
    type: ModelType = ModelType.CHECKPOINT,
    or_type: ModelType | None = None,
) -> Model:
    """The model that a request names in `field`.

    Raises:
        DomainError: As `Models.resolve`, with the metadata `field`.
    """
    try:
        return await models.resolve(
            model_id,
            type=type,
            or_type=or_type,
            masks=type is ModelType.CHECKPOINT,
            vae=True,
            field=field,
        )
    except DomainError as error:
        error.metadata["field"] = field
        raise


def check_architectures(
    companions: Companions, model: Model, path: str
) -> Iterator[FieldViolation]:
    """Refuse what is for another architecture than the checkpoint, naming both."""
    for field, found in companions.by_field.items():
        if found.architecture not in (None, model.architecture):
            yield FieldViolation(
                f"{path}.{field}",
                Reason.FIELDS_CONFLICT,
                f"{found.model_id} is {_NOUNS.get(found.type, 'a model')} for "
                f"{_called(found)}, and {model.model_id} is {_called(model)}; leave it out, "
                "or choose a model that it is for.",
            )


def check_trigger_words(companions: Companions, path: str) -> Iterator[FieldViolation]:
    """Refuse embeddings that are named twice or have a word in common."""
    owners: dict[str, tuple[str, Model]] = {}
    for field, found in companions.by_field.items():
        for word in words_of(found):
            first, other = owners.setdefault(word.casefold(), (field, found))
            if first != field:
                yield FieldViolation(
                    f"{path}.{field}",
                    Reason.FIELDS_CONFLICT,
                    f"{found.model_id} stands for a word that {other.model_id} of {first} "
                    "stands for; name one of them.",
                )
                break


async def check_layers(companions: Companions, model: Model, fits: LoraFits, path: str) -> None:
    """Refuse LoRAs whose layers the checkpoint does not have.

    Raises:
        DomainError: As `LoraFits.check`, with the metadata `field`.
    """
    for field, found in companions.by_field.items():
        if found.type is ModelType.LORA:
            await held_against(f"{path}.{field}", fits.check, found, model)


async def held_against(
    field: str, judge: Callable[[Model, Model], T], one: Model, other: Model
) -> T:
    """What `judge` says of a model and another, off the loop; `field` names the first.

    Raises:
        DomainError: As `judge`, with the metadata `field`.
    """
    try:
        return await asyncio.to_thread(judge, one, other)
    except DomainError as error:
        error.metadata["field"] = field
        raise


def _called(model: Model) -> str:
    return "another architecture" if model.architecture is None else model.architecture.name
