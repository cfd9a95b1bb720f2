"""A model folder in the diffusers layout: what it holds, checked before anything is built.

The folder's index names classes; they are looked up in a table here and never imported
because a file says so. Only safetensors weights are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.bounds import Config
from domains.model.backends.component_config import (
    ConfigFiles,
    check_config,
    read_config,
)
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.families.family import INDEX, Family, has_part
from domains.model.backends.families.formulations import check_formulation
from domains.model.backends.families.registry import PIPELINES, family_of
from domains.model.backends.families.schedulers import SCHEDULER
from domains.model.backends.families.vae import VAE, usual_vae
from domains.model.backends.model_card import fit_to_show
from domains.model.backends.model_plan import ModelPlan, NetworkPlan
from domains.model.backends.network_tensors import folder_tensors
from domains.model.backends.sizes import check_native_size
from domains.model.backends.stored_weights import check_weights
from domains.model.backends.tokenizer_files import check_ids, read_tokenizer
from domains.model.backends.weight_files import weight_files
from domains.model.types import ModelType

INDEX_FILE = "model_index.json"
SCHEDULER_FILE = "scheduler/scheduler_config.json"
_UNET_CONFIG = "unet/config.json"
_VAE = "vae"
_LIBRARIES = frozenset({"diffusers", "transformers", None})
_TOKENIZERS = {"CLIPTokenizer", "CLIPTokenizerFast"}


def inspect_folder(files: ConfinedFiles) -> ModelPlan:
    """Check a model folder: index, configurations and weight headers, no tensor data.

    Raises:
        FailedPrecondition: MODEL_FORMAT_UNSUPPORTED (not such a folder, or a pipeline
            this server does not run), MODEL_INCOMPATIBLE (a part it needs, other than a
            checkpoint's VAE, is absent by design, or the parts make no model of the family),
            MODEL_INCOMPLETE (a file is missing or cannot be read), MODEL_CONFIG_INVALID,
            or what `read_header` raises.
        PathOutsideRoot: A part of it is a link that leads outside the root.
        OSError: The machine cannot read it at the moment.
    """
    if not files.has_folder():
        raise FailedPrecondition(
            "The model is not a folder in the diffusers layout.",
            reason=Reason.MODEL_FORMAT_UNSUPPORTED,
        )
    index = read_config(files, INDEX_FILE)
    family, type = _family(files, index)
    check_config(index, INDEX, called=INDEX_FILE)
    borrowed = _borrowed(index, family, type)
    _check_index(index, family, borrowed)
    _refuse_code(files, family)
    tokenizers = {
        name: read_tokenizer(files, name, encoder)
        for name, encoder in family.tokenizers.items()
        if name not in borrowed
    }
    scheduler = read_config(files, SCHEDULER_FILE)
    check_formulation(scheduler)
    check_config(scheduler, SCHEDULER, called=SCHEDULER_FILE)
    networks = tuple(
        _plan_network(files, *network)
        for network in family.networks.items()
        if network[0] not in borrowed
    )
    configs = {network.name: network.config for network in networks}
    lent = None
    if type is ModelType.CHECKPOINT and _VAE in borrowed:
        lent = _lent_vae(files, family)
        configs[_VAE] = lent
    if not borrowed or lent is not None:
        _check_together(family, configs)
    for network in networks:
        check_weights(network)
    for tokenizer in tokenizers.values():
        if tokenizer.encoder in configs:
            known = configs[tokenizer.encoder]["vocab_size"]
            check_ids(tokenizer, tokenizer.largest_id, known)
    return ModelPlan(
        files,
        family.architecture,
        index,
        networks,
        tokenizers,
        family.mend_scheduler(scheduler),
        type,
        tuple(name for name in family.networks if name in borrowed),
        lent,
    )


def _lent_vae(files: ConfinedFiles, family: Family) -> Config:
    """The configuration of the VAE that a folder is made for and does not hold."""
    called = f"{_VAE}/config.json"
    if files.has_file(called):
        return network_config(files, called, VAE)
    return usual_vae(family.vae_scale)


def _check_together(family: Family, configs: Mapping[str, Config]) -> None:
    why = family.incompatible(configs)
    if why:
        raise FailedPrecondition(
            f"The model is not a complete {family.title} model: {why}.",
            reason=Reason.MODEL_INCOMPATIBLE,
        )
    check_native_size(configs["unet"], configs["vae"])


def _borrowed(index: Config, family: Family, type: ModelType) -> frozenset[str]:
    """What a refiner that is told apart by its UNet has of the checkpoint it is used with, and
    a checkpoint of the request that names its VAE."""
    parts = {*family.networks, *family.tokenizers} - {"unet"}
    if type is ModelType.CHECKPOINT:
        parts = {_VAE}
    return frozenset(name for name in parts if not has_part(index, name))


def _family(files: ConfinedFiles, index: Config) -> tuple[Family, ModelType]:
    """What is expected of the folder, and whether it is a checkpoint or a refiner."""
    class_name = index.get("_class_name")
    if not isinstance(class_name, str) or class_name not in PIPELINES:
        raise FailedPrecondition(
            "The model's pipeline class is not one this server runs: "
            f"{', '.join(sorted(PIPELINES))}.",
            reason=Reason.MODEL_FORMAT_UNSUPPORTED,
        )
    has_unet = files.has_file(_UNET_CONFIG)
    unet = read_config(files, _UNET_CONFIG) if has_unet else {}
    family = family_of(index, unet)
    assert family is not None
    if family.refiner and family.recognise_folder(index, unet) is ModelType.REFINER:
        return family.refiner, ModelType.REFINER
    return family, ModelType.CHECKPOINT


def _check_index(index: Config, family: Family, borrowed: frozenset[str]) -> None:
    libraries = _LIBRARIES | family.libraries
    for name, value in index.items():
        if not isinstance(value, list):
            continue
        if len(value) != 2 or not all(part is None or isinstance(part, str) for part in value):
            _refuse_index(f"gives {fit_to_show(name, 64)!r} no library and class")
        if value[0] not in libraries:
            _refuse_index(f"names an unknown library for {fit_to_show(name, 64)!r}")
    classes = {name: {network.name} for name, network in family.networks.items()}
    classes |= dict.fromkeys(family.tokenizers, _TOKENIZERS)
    for name in classes.keys() - borrowed:
        _check_part(index, name, classes[name])


def _check_part(index: Config, name: str, class_names: set[str]) -> None:
    entry = index.get(name)
    if entry is None or entry == [None, None]:
        raise FailedPrecondition(
            f"The model has no {name}; it cannot draw from text on its own.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"component": name},
        )
    if not isinstance(entry, list) or entry[1] not in class_names:
        _refuse_index(f"names an unknown class for {name!r}")


def _refuse_index(what: str) -> NoReturn:
    raise FailedPrecondition(
        f"The model's model_index.json {what}.", reason=Reason.MODEL_CONFIG_INVALID
    )


def _refuse_code(files: ConfinedFiles, family: Family) -> None:
    """A part that brings Python with it expects it to run; it would draw otherwise here. What
    lies beside the index is used only where that names it, which is refused as any class or
    library that is not known."""
    for folder in family.networks:
        if any(name.endswith(".py") for name in files.names(folder)):
            raise FailedPrecondition(
                f"The model's {folder} folder holds Python code, which is never run.",
                reason=Reason.MODEL_CONFIG_INVALID,
            )


def _plan_network(files: ConfinedFiles, name: str, network_class: NetworkClass) -> NetworkPlan:
    config = network_config(files, f"{name}/config.json", network_class)
    weights = weight_files(files, name, network_class.weights_name)
    tensors = folder_tensors(name, network_class, weights)
    return NetworkPlan(name, network_class, config, tensors)


def network_config(files: ConfigFiles, called: str, network_class: NetworkClass) -> Config:
    """The configuration of a network, checked; `called` is its file.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE or MODEL_CONFIG_INVALID.
    """
    given = read_config(files, called)
    # Null means the default where the library would otherwise work one out.
    defaults = dict(network_class.defaults)
    config = defaults | {k: v for k, v in given.items() if v is not None or k not in defaults}
    check_config(config, network_class.bounds, called=called)
    return config
