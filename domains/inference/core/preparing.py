"""Generations made ready: checked, and resolved until nothing of them is left open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from domains.chain.core.preparing import ChainPreparer, PreparedChain
from domains.errors import FeatureNotBuilt
from domains.inference.core.companions import (
    Companions,
    check_architectures,
    check_layers,
    check_trigger_words,
    find,
    look_up,
)
from domains.inference.core.configuration_rules import check_configurations
from domains.inference.core.control_nets import (
    PreparedControls,
    check_control_types,
    prepare_controls,
)
from domains.inference.core.image_prompts import (
    PreparedImagePrompts,
    prepare_image_prompts,
    with_image_encoders,
)
from domains.inference.core.inputs import Inputs, prepare
from domains.inference.core.refiner_rules import check_refining_model
from domains.inference.core.resolution import resolve, scheduler_of
from domains.inference.core.safeguards import Safeguard, Safeguards
from domains.inference.core.sampling_rules import check_scheduler
from domains.inference.core.schedule_rules import check_schedules
from domains.inference.core.second_pass import check_result_size, with_upscaler
from domains.inference.core.text_layers import check_clip_skip
from domains.inference.core.validation import (
    check_lora_weights,
    check_model,
    check_request,
)
from domains.inference.errors import InvalidGeneration
from domains.inference.jobs import GenerationJob
from domains.inference.ports import (
    ImagePromptFits,
    LoraFits,
    Models,
    PicturePreparer,
    Provenance,
)
from domains.inference.types import GenerationRequest
from domains.model.types import Model
from domains.session.types import PreviewSettings
from domains.values import NO_MARKS


@dataclass(frozen=True)
class PreparedGeneration:
    """A generation with nothing left open but its device; held for as long as the job may need
    the files of its pictures."""

    model: Model
    companions: Companions
    job: GenerationJob
    inputs: Inputs
    controls: PreparedControls
    image_prompts: PreparedImagePrompts
    chain: PreparedChain
    safeguard: Safeguard | None = None

    @property
    def policies(self) -> tuple[str, ...]:
        """Keys of the safety policies that it goes by."""
        own = () if self.safeguard is None else (self.safeguard.policy.key,)
        return tuple(dict.fromkeys((*own, *self.chain.policies)))

    @property
    def models(self) -> tuple[Model, ...]:
        """The checkpoint, and those that are used with it."""
        return self.model, *self.companions.models, *self.chain.models

    @property
    def companion_ids(self) -> tuple[str, ...]:
        """All but the checkpoint."""
        return tuple(model.model_id for model in self.models[1:])


class GenerationPreparer:
    """Makes generations ready.

    Args:
        models: Finds those that a request names.
        fits: Holds LoRAs against checkpoints.
        image_prompt_fits: Holds IP-Adapters against checkpoints and image encoders.
        chains: Makes ready what finishes pictures.
        provenance: Decides which marks pictures get.
        safeguards: Know which safety policy holds.
        random_seed: Gives a fresh seed from 0 to 2^32 - 1.
    """

    def __init__(
        self,
        models: Models,
        fits: LoraFits,
        image_prompt_fits: ImagePromptFits,
        chains: ChainPreparer,
        provenance: Provenance,
        safeguards: Safeguards,
        *,
        random_seed: Callable[[], int],
    ) -> None:
        self._models = models
        self._fits = fits
        self._image_prompt_fits = image_prompt_fits
        self._chains = chains
        self._provenance = provenance
        self._safeguards = safeguards
        self._random_seed = random_seed

    async def prepare(
        self, request: GenerationRequest, pictures: PicturePreparer
    ) -> PreparedGeneration:
        """What a request comes to; `pictures` prepares those that it names.

        Raises:
            InvalidGeneration: The content breaks rules.
            InvalidPicture: A picture cannot be used.
            FeatureNotBuilt: The request uses what this version does not do.
            PostprocessorMissing: No upscaler is installed that a second pass needs.
            NotFound: A step names a safety policy that is not there, or what it needs is not.
            InvalidChain: A step does not go with the size of what is drawn.
            InvalidProvenance: A mark cannot be made.
            SigningMissing: What signs is not installed.
            DomainError: A model cannot be used, or the signer.
        """
        violations = check_request(request)
        if violations:
            raise InvalidGeneration.of(*violations)
        settings = request.settings
        if request.unbuilt:
            raise FeatureNotBuilt(request.unbuilt)
        model = await look_up(self._models, settings.model_id, "settings.model_id")
        settings = await with_upscaler(settings, self._models, "settings")
        companions = await find(self._models, settings, "settings")
        settings = companions.named_in(settings)
        scheduler, refiner = scheduler_of(settings, model), companions.refiner
        violations = [
            # Two names may be of one model.
            *check_lora_weights(settings.loras, "settings.loras"),
            *check_architectures(companions, model, "settings"),
            *check_trigger_words(companions, "settings"),
            *check_control_types(settings, companions, "settings"),
            *check_model(settings, model, "settings"),
            *check_scheduler(settings, scheduler, model, "settings"),
            *check_clip_skip(settings, model, refiner, "settings"),
            *check_refining_model(settings, scheduler, refiner, model, "settings"),
            *check_schedules(settings, scheduler, model, "settings", refiner),
        ]
        if violations:
            raise InvalidGeneration.of(*violations)
        check_configurations(settings, scheduler, model, refiner)
        await check_layers(companions, model, self._fits, "settings")
        settings, companions = await with_image_encoders(
            settings, companions, model, self._models, self._image_prompt_fits, "settings"
        )
        inputs = await prepare(pictures, request, model, "settings")
        picture, mask = inputs.picture, inputs.mask
        settings = resolve(inputs.named_in(settings), model, self._random_seed)
        violations = [*check_result_size(settings, companions.upscaler, "settings")]
        if violations:
            raise InvalidGeneration.of(*violations)
        chain = await self._chains.prepare(request.chain, "postprocessing")
        width, height = chain.result_size(
            settings.result_size,
            "postprocessing",
            settings.output.format,
            "settings.output.format",
        )
        guard = self._safeguards.of(settings)
        demanded = NO_MARKS if guard is None else guard.policy.marks
        marks = await self._provenance.decide(
            settings.output.provenance,
            (width, height),
            "settings.output.provenance",
            chain.demanded | demanded,
        )
        output = replace(settings.output, provenance=marks.wish)
        settings = replace(settings, output=output)
        controls = await prepare_controls(pictures, request, settings)
        image_prompts = await prepare_image_prompts(pictures, request, controls.settings)
        policy = None if guard is None else guard.of_results
        if policy is not None and chain.ends_with(policy):
            policy = None  # it has the last word already
        job = GenerationJob(
            image_prompts.settings,
            model.place,
            request.delivery.previews,
            companions=companions.for_job(),
            picture=None if picture is None else picture.prepared,
            mask=None if mask is None else mask.prepared,
            controls=controls.pictures,
            image_prompts=image_prompts.pictures,
            steps=chain.steps,
            finished_width=width,
            finished_height=height,
            policy=policy,
            mark_key=await self._provenance.mark_key() if marks.watermark else None,
        )
        if job.judged:
            # What may be withheld is not shown while it forms either.
            job = replace(job, previews=PreviewSettings())
        return PreparedGeneration(
            model, companions, job, inputs, controls, image_prompts, chain, guard
        )
