"""What a generation works with beside its model: brought to the device, and held against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from domains.chain.types import UpscalerModel
from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.by_upscaler import ByUpscaler
from domains.inference.backends.clock import Clock
from domains.inference.backends.control import ControlNet
from domains.inference.backends.control_check import check_control_net
from domains.inference.backends.image_prompt_check import check_image_prompt
from domains.inference.backends.image_prompts import LoadedImagePrompt
from domains.inference.backends.inversion_files import read_inversion
from domains.inference.backends.inversions import NO_INVERSIONS, Inversions
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loaded_network import LoadedNetwork
from domains.inference.backends.loader import Loader
from domains.inference.backends.lora_layers import ActiveLora, check_loras
from domains.inference.backends.refiner_part import RefinerPart, prepare_refiner
from domains.inference.backends.room import picture_bytes
from domains.inference.backends.seamless import edges_of
from domains.inference.backends.second_try import with_room
from domains.inference.backends.vae_part import Vae, own_vae
from domains.inference.backends.wanted import WantedModel
from domains.inference.jobs import GenerationJob
from domains.inference.types import PrecisionMode, resolved
from domains.session.jobs import JobContext


@dataclass(frozen=True)
class Parts:
    """The parts of one request; `loras` and `control_nets` are checked against the model's
    layers."""

    vae: Vae
    loras: tuple[ActiveLora, ...] = ()
    inversions: Inversions = NO_INVERSIONS
    control_nets: tuple[ControlNet, ...] = ()
    image_prompts: tuple[LoadedImagePrompt, ...] = ()
    refiner: RefinerPart | None = None
    upscaler: ByUpscaler | None = None


@dataclass(frozen=True)
class PartLoading:
    """Has ready what a job's settings name.

    `using` is told of every model that the work uses.
    """

    loader: Loader
    context: JobContext
    clock: Clock
    using: Callable[[LoadedModel | LoadedNetwork], object]

    def load(self, job: GenerationJob, model: LoadedModel) -> Parts:
        """The parts of `job` beside its model, which stays; a refiner waits until the model can
        give way where there is no room for both.

        Raises:
            DomainError: As `Loader.ready_network`, `LoraShelf.get`, `check_loras` and
                `read_inversion`, `prepare_refiner` and `ByUpscaler.ready`.
            FailedPrecondition: MODEL_INCOMPLETE, where there is no VAE.
            Exception: As torch raises it.
        """
        vae = self._vae(job, model)
        return Parts(
            vae=vae,
            loras=self._loras(job, model),
            inversions=self._inversions(job, model),
            control_nets=self._control_nets(job, model),
            image_prompts=self._image_prompts(job, model),
            refiner=self._refiner(job, model, vae),
            upscaler=self._upscaler(job, model),
        )

    def _upscaler(self, job: GenerationJob, model: LoadedModel) -> ByUpscaler | None:
        again = job.settings.second_pass
        if again is None or not again.postprocessor_id:
            return None
        place = job.companion(again.postprocessor_id).place
        upscaler = ByUpscaler(
            self.loader.upscalers,
            UpscalerModel(again.postprocessor_id, place),
            model.precision is PrecisionMode.EXACT,
            self.context,
            model.make_room,
        )
        with self.clock.time("load"):
            upscaler.ready()
        return upscaler

    def _refiner(self, job: GenerationJob, model: LoadedModel, vae: Vae) -> RefinerPart | None:
        named = job.settings.refiner
        if named is None:
            return None
        companion = job.companion(named.model_id)
        wanted = WantedModel(
            named.model_id,
            companion.place,
            job.settings.precision,
            cached=companion.cached,
            type=companion.model_type,
        )

        def load() -> LoadedModel:
            found = self.loader.ready(wanted, self.context, self.clock).model
            self.using(found)
            return found

        last = job.settings.passes[-1]
        part = prepare_refiner(model, last, wanted, self.loader, self.context, load)
        working = picture_bytes(vae.config, *last.size, vae.numerics.data_type)
        ready = self.loader.ready_beside(wanted, working, self.context, self.clock)
        if ready is not None:
            part.model = ready.model
            self.using(ready.model)
        return part

    def _vae(self, job: GenerationJob, model: LoadedModel) -> Vae:
        edges = edges_of(job.settings)
        if not job.settings.vae_model_id:
            if model.plan.lent_vae is not None:
                raise _no_vae(model)
            return Vae(model, model, edges)
        vae = Vae(model, self._network(job, job.settings.vae_model_id), edges)
        _check_vae(vae, own_vae(model))
        return vae

    def _control_nets(self, job: GenerationJob, model: LoadedModel) -> tuple[ControlNet, ...]:
        nets = []
        pairs = zip(job.settings.control_nets, job.controls, strict=True)
        for index, (guidance, pictures) in enumerate(pairs):
            network = self._network(job, guidance.model_id)
            field = f"settings.control_nets[{index}]"
            check_control_net(network, model, guidance.control_type, field)
            nets.append(ControlNet(network, guidance, pictures))
        return tuple(nets)

    def _image_prompts(
        self, job: GenerationJob, model: LoadedModel
    ) -> tuple[LoadedImagePrompt, ...]:
        prompts = []
        pairs = zip(job.settings.image_prompts, job.image_prompts, strict=True)
        for index, (prompt, pictures) in enumerate(pairs):
            adapter = self._network(job, prompt.model_id)
            encoder = self._network(job, prompt.image_encoder_model_id)
            loaded = LoadedImagePrompt(prompt, adapter, encoder, pictures)
            check_image_prompt(loaded, model, f"settings.image_prompts[{index}]")
            prompts.append(loaded)
        return tuple(prompts)

    def _network(self, job: GenerationJob, model_id: str) -> LoadedNetwork:
        companion = job.companion(model_id)
        wanted = WantedModel(
            model_id, companion.place, cached=companion.cached, type=companion.model_type
        )
        found = self.loader.ready_network(wanted, self.context, self.clock).model
        self.using(found)
        return found

    def _inversions(self, job: GenerationJob, model: LoadedModel) -> Inversions:
        if not job.settings.embedding_model_ids:
            return NO_INVERSIONS
        with self.clock.time("load"):
            reads = [
                partial(read_inversion, job.companion(model_id), model)
                for model_id in job.settings.embedding_model_ids
            ]
            return Inversions([with_room(read, model.make_room) for read in reads])

    def _loras(self, job: GenerationJob, model: LoadedModel) -> tuple[ActiveLora, ...]:
        if not job.settings.loras:
            return ()
        with self.clock.time("load"):
            # The shelf has nothing of one that it could not read.
            reads = [
                partial(
                    self.loader.loras.get, named.model_id, job.companion(named.model_id).place
                )
                for named in job.settings.loras
            ]
            kept = [with_room(read, model.make_room) for read in reads]
            loras = tuple(
                ActiveLora(lora, named.weight, resolved(named.text_encoder_weight))
                for lora, named in zip(kept, job.settings.loras, strict=True)
            )
            check_loras(model, loras)
        return loras


def _no_vae(model: LoadedModel) -> FailedPrecondition:
    """Its file has lost its VAE since the request was accepted."""
    return FailedPrecondition(
        f"{model.model_id} has no VAE of its own; name one that goes with it.",
        reason=Reason.MODEL_INCOMPLETE,
        metadata={"model_id": model.model_id, "field": "settings.vae_model_id"},
    )


def _check_vae(vae: Vae, own: Vae) -> None:
    """Refuse a VAE whose latents are of another shape than the model's."""
    for name, its, wanted in (
        ("channels", vae.config["latent_channels"], own.config["latent_channels"]),
        ("pixels along an edge", vae.pixels_per_latent, own.pixels_per_latent),
    ):
        if its != wanted:
            raise FailedPrecondition(
                f"The latents of VAE {vae.holder.model_id} have {its} {name}, those of "
                f"{own.holder.model_id} {wanted}; choose a VAE for this model, or none.",
                reason=Reason.MODEL_INCOMPATIBLE,
                metadata={"model_id": vae.holder.model_id, "field": "settings.vae_model_id"},
            )
