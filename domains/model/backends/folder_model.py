"""A model that is a diffusers folder, described by its index, configurations and headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domains.errors import FailedPrecondition
from domains.model.backends.component_config import read_config
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.confinement import Root
from domains.model.backends.diffusers_folder import (
    INDEX_FILE,
    SCHEDULER_FILE,
    inspect_folder,
)
from domains.model.backends.families.family import has_part
from domains.model.backends.families.formulations import stand_in
from domains.model.backends.families.registry import FAMILIES
from domains.model.backends.families.unet import UNET
from domains.model.backends.families.vae import VAE
from domains.model.backends.header_facts import data_type, parameter_count
from domains.model.backends.model_card import MAX_CARD_BYTES, ModelCard, fit_to_show, read_card
from domains.model.backends.model_plan import ModelPlan, NetworkPlan
from domains.model.backends.planned import shape_of, without_lists
from domains.model.backends.recognition import Tensors
from domains.model.backends.recognition.unets import denoiser
from domains.model.backends.roots import Found
from domains.model.backends.single_file import problem_of, shown_name
from domains.model.backends.sizes import native_size
from domains.model.backends.usability import TAKES_MASKS, WITHOUT_VAE, waits_for
from domains.model.types import (
    Architecture,
    Component,
    Model,
    ModelFormat,
    ModelType,
    PredictionType,
)

_PREDICTIONS = {prediction.value: prediction for prediction in PredictionType}
_INPAINTING_CHANNELS = 9  # latents, the picture's latents, and the mask


def read_folder(found: Found, root: Root) -> Model:
    """Describe a folder with a model index. The model has no id yet.

    A folder that cannot be run is described as far as its files allow, with its problem.

    Raises:
        PathOutsideRoot: A part of it has become a link that leads outside its root.
        OSError: The machine cannot read it at the moment.
    """
    files = ConfinedFiles(found.place, root)
    plan, problem = None, None
    try:
        plan = inspect_folder(files)
    except FailedPrecondition as error:
        problem = problem_of(error)
    index = plan.index if plan else _config(files, INDEX_FILE)
    scheduler = plan.scheduler_config if plan else _config(files, SCHEDULER_FILE)
    unet = _network_config(plan, files, "unet")
    vae = _network_config(plan, files, "vae")
    if plan is not None and plan.lent_vae is not None:
        vae = plan.lent_vae
    width, height = _native_size(unet, vae)
    type, architecture = _recognised(index, unet)
    inpainting = unet.get("in_channels") == _INPAINTING_CHANNELS
    headers = [file.header for network in _networks(plan) for file in network.files]
    card = card_of(files)
    return Model(
        model_id="",
        name=card.title or shown_name(found),
        type=type,
        architecture=plan.architecture if plan else architecture,
        format=ModelFormat.DIFFUSERS_FOLDER,
        place=found.place,
        size_bytes=found.size_bytes,
        modified_at=found.modified_at,
        prediction_type=_PREDICTIONS.get(_text(scheduler, "prediction_type")),
        native_width=width,
        native_height=height,
        data_type=data_type(headers),
        parameter_count=parameter_count(headers),
        default_scheduler=_text(scheduler, "_class_name"),
        scheduler_config=without_lists(plan.scheduler_config) if plan else {},
        zero_terminal_snr=scheduler.get("rescale_betas_zero_snr") is True,
        inpainting=inpainting,
        borrows=bool(_borrowed(plan, ModelType.REFINER)),
        lacks_vae=bool(_borrowed(plan, ModelType.CHECKPOINT)),
        kind=_kind(plan),
        remarks=_remarks(
            files, type, _text(scheduler, "_class_name"), plan, inpainting=inpainting
        ),
        components=_components(index, plan),
        tags=card.tags,
        description=card.description,
        license=card.license,
        problem=problem,
    )


def _remarks(
    files: ConfinedFiles,
    type: ModelType | None,
    scheduler_class: str,
    plan: ModelPlan | None,
    *,
    inpainting: bool,
) -> tuple[str, ...]:
    said = [
        waits_for(type),
        _borrows(plan),
        TAKES_MASKS if inpainting else "",
        stand_in(scheduler_class),
        _scripts(files),
    ]
    return tuple(filter(None, said))


def _borrowed(plan: ModelPlan | None, type: ModelType) -> tuple[str, ...]:
    """What a model of that type lacks and others lend it."""
    return plan.borrowed if plan is not None and plan.type is type else ()


def _borrows(plan: ModelPlan | None) -> str:
    """What is to be said of a model that is used with networks of others."""
    if _borrowed(plan, ModelType.CHECKPOINT):
        return WITHOUT_VAE
    names = " and ".join(_borrowed(plan, ModelType.REFINER))
    if not names:
        return ""
    return f"It has no {names} of its own and takes those of the checkpoint it is used with."


def _scripts(files: ConfinedFiles) -> str:
    """What is to be said of Python code beside the index, as of servers that run the model."""
    try:
        names = files.names("")
    except FailedPrecondition:
        return ""
    has_code = any(name.endswith(".py") for name in names)
    return "The Python code beside it is never run." if has_code else ""


def _kind(plan: ModelPlan | None) -> str:
    """What people call its kind, by the tensors of its UNet."""
    for network in _networks(plan):
        if network.name == "unet":
            shapes = {name: origin.shape for name, origin in network.tensors.items()}
            found = denoiser(Tensors(shapes))
            return found.kind if found else ""
    return ""


def _config(files: ConfinedFiles, name: str) -> Mapping[str, Any]:
    """A configuration file, or nothing where it is unusable: the problem says why."""
    try:
        return read_config(files, name)
    except FailedPrecondition:
        return {}


def card_of(files: ConfinedFiles) -> ModelCard:
    """The model's card; one that is missing or cannot be read says nothing."""
    try:
        return read_card(files.read("README.md", MAX_CARD_BYTES))
    except FailedPrecondition:
        return ModelCard()


def _networks(plan: ModelPlan | None) -> tuple[NetworkPlan, ...]:
    return plan.networks if plan else ()


def _network_config(
    plan: ModelPlan | None, files: ConfinedFiles, name: str
) -> Mapping[str, Any]:
    for network in _networks(plan):
        if network.name == name:
            return network.config
    return _config(files, f"{name}/config.json")


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    return value[:128] if isinstance(value, str) and value.isascii() else ""


def _parts(index: Mapping[str, Any]) -> dict[str, str]:
    """Parts that the index names, with their classes; parts it leaves out say null."""
    return {
        fit_to_show(name, 64): fit_to_show(entry[1], 128)
        for name, entry in index.items()
        if has_part(index, name)
    }


def _recognised(
    index: Mapping[str, Any], unet: Mapping[str, Any]
) -> tuple[ModelType | None, Architecture | None]:
    for family in FAMILIES:
        type = family.recognise_folder(index, unet)
        if type is not None:
            return type, family.architecture
    draws = has_part(index, "unet") or has_part(index, "transformer")
    return ModelType.CHECKPOINT if draws else None, None


def _native_size(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in pixels; zeros where the configurations do not tell."""
    told = (
        (UNET, "sample_size", unet.get("sample_size")),
        (VAE, "block_out_channels", vae.get("block_out_channels")),
    )
    if any(value is None or kind.bounds.keys[key].problem(value) for kind, key, value in told):
        return 0, 0
    return native_size(unet, vae)


def _components(index: Mapping[str, Any], plan: ModelPlan | None) -> tuple[Component, ...]:
    networks = {network.name: network for network in _networks(plan)}
    return tuple(
        _component(name, class_name, networks.get(name))
        for name, class_name in sorted(_parts(index).items())
    )


def _component(name: str, class_name: str, network: NetworkPlan | None) -> Component:
    headers = [file.header for file in network.files] if network else []
    return Component(
        name,
        class_name,
        parameter_count(headers),
        sum(header.size_bytes for header in headers),
        data_type(headers),
        *shape_of(network.config if network else {}),
    )
