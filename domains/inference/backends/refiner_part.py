"""The model that finishes what a checkpoint began: beside it on the device, or in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.families import sdxl
from domains.inference.backends.families.clip_text import EncodedText
from domains.inference.backends.families.registry import family_of
from domains.inference.backends.handover import (
    Division,
    RefinerSchedule,
    divide,
    schedule,
)
from domains.inference.backends.inversions import Inversions
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loader import Loader
from domains.inference.backends.wanted import WantedModel
from domains.inference.types import GenerationSettings, resolved
from domains.model.backends.bounds import Config
from domains.model.backends.families.sdxl import incompatible_refiner
from domains.model.backends.model_plan import ModelPlan
from domains.model.backends.sizes import pixels_per_latent
from domains.model.types import ModelType
from domains.session.jobs import JobContext

_ENCODER, _VAE = "text_encoder_2", "vae"
# What latents mean, beside how many there are.
_SCALE = ("scaling_factor", "latents_mean", "latents_std", "shift_factor")


@dataclass
class RefinerPart:
    """A refiner that fits `base`; its own networks and those that it borrows of it, which are
    used where they are.

    `model` is None until there is room for it. `settings` are those of the pass that it
    finishes; `division` is how their steps are divided.
    """

    base: LoadedModel
    settings: GenerationSettings
    plan: ModelPlan
    division: Division
    load: Callable[[], LoadedModel]
    give_way: Callable[[frozenset[str]], None]
    model: LoadedModel | None = None

    @property
    def ready(self) -> LoadedModel:
        """The model.

        Raises:
            LookupError: It waits for room.
        """
        return resolved(self.model)

    def take_over(self) -> None:
        """Have it ready in the place of the base, of which only what is used yet stays: its
        VAE, and what the refiner borrows.

        Raises:
            DomainError: As `Loader.ready`.
            Exception: As torch raises it.
        """
        self.give_way(frozenset({_VAE, *self.plan.borrowed}))
        self.model = self.load()

    def encode_text(self, inversions: Inversions) -> EncodedText:
        """What steers its UNet.

        Args:
            inversions: Words of the prompts that stand for vectors of their own.

        Raises:
            InvalidArgument: As `Family.encode_text`.
        """
        refiner = resolved(self.settings.refiner)
        if self.plan.type is ModelType.CHECKPOINT:
            guided = replace(self.settings, guidance=resolved(refiner.guidance))
            return family_of(self.plan.architecture).encode_text(self.ready, guided, inversions)
        holder = self.base if _ENCODER in self.plan.borrowed else self.ready
        return sdxl.encode_refined_text(self.ready, holder, self.settings, refiner, inversions)

    def schedule(self) -> RefinerSchedule:
        """A fresh schedule for its part of one picture."""
        return schedule(
            self.settings, self.base.plan.scheduler_config, self.plan.scheduler_config
        )


def prepare_refiner(
    base: LoadedModel,
    settings: GenerationSettings,
    wanted: WantedModel,
    loader: Loader,
    context: JobContext,
    load: Callable[[], LoadedModel],
) -> RefinerPart:
    """A refiner, checked by its headers; not loaded yet.

    Args:
        base: The model before it.
        settings: Resolved, of the pass that it finishes; they name it.
        wanted: The refiner.
        loader: Knows it, and lets the base go.
        context: Hears of it.
        load: Has it ready.

    Raises:
        DomainError: As `prepare_model` and `divide`; MODEL_INCOMPATIBLE where it does not fit
            the base.
    """
    plan = loader.prepared(wanted, context).plan
    _check(plan, wanted.model_id, base)
    return RefinerPart(
        base,
        settings,
        plan,
        divide(settings, base.plan.scheduler_config, plan.scheduler_config),
        load,
        lambda kept: loader.give_way(base, kept),
    )


def _check(plan: ModelPlan, model_id: str, base: LoadedModel) -> None:
    """Refuse a refiner whose latents are others than the base's, or which cannot use what it
    borrows."""
    own = {network.name: network.config for network in plan.networks}
    theirs = base.plan.configs
    why = _unlike(own.get(_VAE, theirs[_VAE]), theirs[_VAE])
    if plan.architecture is not base.plan.architecture:
        why = f"it is {plan.architecture.name}, and that is {base.plan.architecture.name}"
    elif plan.type is ModelType.REFINER and plan.borrowed and not why:
        why = incompatible_refiner(theirs | own)
    if why:
        raise FailedPrecondition(
            f"Refiner {model_id} does not fit {base.model_id}: {why}; choose a refiner for "
            "this model, or none.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"model_id": model_id, "field": "settings.sdxl.refiner.model_id"},
        )


def _unlike(own: Config, wanted: Config) -> str:
    """In what two VAEs' latents differ; empty where they are of one space."""
    channels = own["latent_channels"], wanted["latent_channels"]
    if channels[0] != channels[1]:
        return "its latents have {} channels, and {} there".format(*channels)
    if pixels_per_latent(own) != pixels_per_latent(wanted):
        return "its latents stand for another number of pixels"
    if any(own.get(key) != wanted.get(key) for key in _SCALE):
        return "its latents are of another scale"
    return ""
