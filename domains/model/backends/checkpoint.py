"""A checkpoint in one file, in the layout of the original code: what it holds, checked before
anything is built.

Networks are found by the prefixes of their tensors. Their configurations come from shapes and
from what all models of the kind have, unless the file names one (`companion_of`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.bounds import Config
from domains.model.backends.checkpoint_kinds.kind import CheckpointKind, Padded, Part
from domains.model.backends.checkpoint_kinds.registry import KINDS
from domains.model.backends.companion import CLIP_TOKENS, clip_tokenizer, companion_of
from domains.model.backends.component_config import ConfigFiles, check_config, read_config
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.derived.config import derived_config
from domains.model.backends.diffusers_folder import INDEX_FILE, network_config
from domains.model.backends.families.family import INDEX
from domains.model.backends.families.registry import BY_ARCHITECTURE
from domains.model.backends.families.schedulers import SCHEDULER
from domains.model.backends.families.vae import VAE, usual_vae
from domains.model.backends.file_recognition import config_beside, recognise_file
from domains.model.backends.layouts.stored import Stored
from domains.model.backends.model_plan import ModelPlan, NetworkPlan, WeightFile
from domains.model.backends.network_tensors import network_tensors
from domains.model.backends.recognition import Recognised
from domains.model.backends.safetensors_header import Header, TensorEntry, read_header
from domains.model.backends.schedule import schedule_of
from domains.model.backends.sizes import check_native_size, sample_size
from domains.model.backends.stored_weights import check_weights, incomplete
from domains.model.backends.tokenizer_files import TokenizerPlan, check_ids, read_tokenizer
from domains.model.backends.usability import check_usable
from domains.model.types import ModelType

_VAE = "vae"
# What training and merging leave in a file, beside its networks.
_EXTRAS = re.compile(
    r"model_ema\..*|cond_stage_model\.logit_scale|.*\.position_ids"
    r"|(?:optimizer_states|lr_schedulers|callbacks|loops|loss|denoiser)\..*"
    r"|(?:sqrt_|log_one_minus_|posterior_).*|alphas_cumprod(?:_prev)?|betas|logvar"
    r"|lvlb_weights|scale_factor|global_step|epoch|iteration|v_pred|ztsnr|scaled_fp8"
)


def inspect_checkpoint(files: ConfinedFiles) -> ModelPlan:
    """Check a model that is one file: header and shapes, no tensor data.

    Raises:
        FailedPrecondition: MODEL_FORMAT_UNSUPPORTED (no checkpoint in the original layout),
            MODEL_INCOMPLETE (a network but the VAE, a tensor or the configuration that it
            names is missing, or there is a tensor that no network has), MODEL_INCOMPATIBLE
            (the parts make no model), MODEL_CONFIG_INVALID, what `check_weights` or
            `read_header` raises.
        PathOutsideRoot: It, or what it names, is a link that leads outside the root.
        OSError: The machine cannot read it at the moment.
    """
    header = read_header(files)
    found = recognise_file(header, config_beside(files))
    check_usable(found)
    kind = _kind(found)
    file = WeightFile(files, "", header)
    given = companion_of(files, header.metadata)
    parts = _split(kind, header)
    networks = tuple(
        _network(name, part, Stored(file, parts[name], part.prefix), given)
        for name, part in kind.parts.items()
        if name in parts
    )
    lent = None if _VAE in parts else _lent_vae(kind, given)
    configs = {network.name: network.config for network in networks}
    configs |= {} if lent is None else {_VAE: lent}
    if given is None or not given.has_file("unet/config.json"):
        _settle(kind, configs, header, found)
    _check(kind, networks, configs)
    tokenizers = {
        name: _tokenizer(name, padded, configs[padded.encoder], given)
        for name, padded in kind.tokenizers.items()
    }
    scheduler = schedule_of(kind, found, given)
    check_config(scheduler, SCHEDULER, called="scheduler")
    return ModelPlan(
        files,
        kind.architecture,
        _index(kind, given, inpainting=found.inpainting),
        networks,
        tokenizers,
        scheduler,
        kind.type,
        () if lent is None else (_VAE,),
        lent,
    )


def _lent_vae(kind: CheckpointKind, given: ConfigFiles | None) -> Config:
    """The configuration of the VAE that it is made for and does not hold."""
    called = f"{_VAE}/config.json"
    if given is not None and given.has_file(called):
        return network_config(given, called, VAE)
    return usual_vae(BY_ARCHITECTURE[kind.architecture].vae_scale)


def _kind(found: Recognised) -> CheckpointKind:
    for kind in KINDS:
        if (kind.type, kind.architecture) == (found.type, found.architecture):
            return kind
    raise FailedPrecondition(
        "The file is no checkpoint that this version loads; use the model's diffusers folder.",
        reason=Reason.MODEL_FORMAT_UNSUPPORTED,
    )


def _index(kind: CheckpointKind, given: ConfigFiles | None, *, inpainting: bool) -> Config:
    """What a folder's index would say beside naming the parts."""
    if given is None or not given.has_file(INDEX_FILE):
        return _named(kind.index, inpainting=inpainting)
    index = read_config(given, INDEX_FILE)
    check_config(index, INDEX, called=INDEX_FILE)
    return {key: value for key, value in index.items() if not isinstance(value, list)}


def _named(index: Config, *, inpainting: bool) -> Config:
    """With the class that diffusers has for models that take a mask."""
    name = index["_class_name"]
    if inpainting:
        name = f"{name.removesuffix('Pipeline')}InpaintPipeline"
    return {**index, "_class_name": name}


def _split(kind: CheckpointKind, header: Header) -> dict[str, list[TensorEntry]]:
    """The tensors of each network that it holds; refuses what is of none, and a network that is
    missing, other than a checkpoint's VAE, which a request can name."""
    found: dict[str, list[TensorEntry]] = {name: [] for name in kind.parts}
    prefixes = {part.prefix: name for name, part in kind.parts.items()}
    unexpected = []
    for entry in header.tensors:
        prefix = next((prefix for prefix in prefixes if entry.name.startswith(prefix)), None)
        if prefix is not None:
            found[prefixes[prefix]].append(entry)
        elif not _EXTRAS.fullmatch(entry.name):
            unexpected.append(entry.name)
    if not found[_VAE] and kind.type is ModelType.CHECKPOINT:
        del found[_VAE]
    for name, entries in found.items():
        if not entries:
            raise _missing(name, kind.parts[name])
    if unexpected:
        raise incomplete("file", [], unexpected)
    return found


def _missing(name: str, part: Part) -> FailedPrecondition:
    advice = (
        "get the version of the file with a VAE baked in, or the model's folder"
        if name == _VAE
        else "get the whole checkpoint, or the model's folder"
    )
    return FailedPrecondition(
        f"The file has no {name}: no tensors begin with {part.prefix}; {advice}.",
        reason=Reason.MODEL_INCOMPLETE,
        metadata={"component": name},
    )


def _network(name: str, part: Part, stored: Stored, given: ConfigFiles | None) -> NetworkPlan:
    tensors = part.mend(network_tensors(name, part.network_class, stored))
    called = f"{name}/config.json"
    if given is not None and given.has_file(called):
        config = network_config(given, called, part.network_class)
    else:
        config = derived_config(name, part.network_class, tensors, part.settings)
    return NetworkPlan(name, part.network_class, config, tensors)


def _settle(
    kind: CheckpointKind, configs: Mapping[str, Config], header: Header, found: Recognised
) -> None:
    """What follows from several configurations, and the size that the model was trained for."""
    kind.settle(configs)
    trained = f"{found.native_size}x{found.native_size}"
    told = (header.metadata.get("modelspec.resolution", ""), trained)
    sizes = (sample_size(size, configs["vae"]) for size in told)
    said = next((size for size in sizes if size is not None), None)
    if said is not None:
        configs["unet"]["sample_size"] = said


def _check(
    kind: CheckpointKind, networks: Iterable[NetworkPlan], configs: Mapping[str, Config]
) -> None:
    for network in networks:
        check_config(network.config, network.network_class.bounds, called=network.name)
    why = kind.incompatible(configs)
    if why:
        raise FailedPrecondition(
            f"The file is not a complete {kind.title} model: {why}.",
            reason=Reason.MODEL_INCOMPATIBLE,
        )
    check_native_size(configs["unet"], configs["vae"])
    for network in networks:
        check_weights(network)


def _tokenizer(
    name: str, padded: Padded, encoder: Config, given: ConfigFiles | None
) -> TokenizerPlan:
    known = encoder["vocab_size"]
    if given is not None and given.has_folder(name):
        plan = read_tokenizer(given, name, padded.encoder)
    elif known >= CLIP_TOKENS:
        plan = clip_tokenizer(name, padded.encoder, padded.token)
    else:
        raise FailedPrecondition(
            f"The file's {padded.encoder} knows {known} tokens and CLIP's tokenizer has "
            f"{CLIP_TOKENS}, so it was trained with another, which the file does not name; "
            "use the model's folder.",
            reason=Reason.MODEL_INCOMPLETE,
            metadata={"component": name},
        )
    check_ids(plan, plan.largest_id, known)
    return plan
