"""One network that is a model of its own: a VAE, a ControlNet, an IP-Adapter or an encoder of
texts or pictures.

It lies in a file of either layout, with or without the configuration that folders have, or in
a folder of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.bounds import Config
from domains.model.backends.companion import CONFIGURATION, beside, companion_of
from domains.model.backends.component_config import read_config
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.derived.config import derived_config
from domains.model.backends.diffusers_folder import network_config
from domains.model.backends.families.clip import CLIP_TEXT, CLIP_TEXT_PROJECTION
from domains.model.backends.families.clip_vision import CLIP_VISION_PROJECTION
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.families.control_net import (
    CONTROL_NET,
    CONTROL_NET_UNION,
    is_union,
)
from domains.model.backends.families.family import SD_SCALE
from domains.model.backends.families.image_prompt import IMAGE_PROMPT
from domains.model.backends.families.registry import BY_ARCHITECTURE
from domains.model.backends.families.vae import VAE
from domains.model.backends.file_recognition import config_beside, recognise_file
from domains.model.backends.held_files import HELD_FILES
from domains.model.backends.layouts.stored import Stored
from domains.model.backends.model_plan import NetworkPlan, Origin, WeightFile
from domains.model.backends.network_tensors import folder_tensors, network_tensors
from domains.model.backends.recognition import Recognised, Tensors, recognise
from domains.model.backends.recognition.controls import APPLIED
from domains.model.backends.recognition.encoders import OPENAI_VISION
from domains.model.backends.safetensors_header import Header, read_header
from domains.model.backends.stored_weights import check_weights
from domains.model.backends.usability import check_usable
from domains.model.backends.weight_files import weight_files
from domains.model.types import ModelType
from domains.values import types_of

CONFIG_FILE = "config.json"
_CONTROL_NETS = (CONTROL_NET, CONTROL_NET_UNION)
_TEXTS = (CLIP_TEXT, CLIP_TEXT_PROJECTION)
_CLASSES = {each.name: each for each in (VAE, *_CONTROL_NETS, *_TEXTS, CLIP_VISION_PROJECTION)}
_NAMES = {
    VAE.name: "vae",
    CLIP_VISION_PROJECTION.name: "image_encoder",
    IMAGE_PROMPT.name: "image_prompt",
    **dict.fromkeys((each.name for each in _CONTROL_NETS), "controlnet"),
    **dict.fromkeys((each.name for each in _TEXTS), "text_encoder"),
}
_PREFIXES = ("first_stage_model.", "control_model.", "cond_stage_model.transformer.")


def loads_alone(found: Recognised) -> bool:
    """Whether a file is a network of a class that is loaded on its own."""
    if found.type in (ModelType.VAE, ModelType.CONTROL_NET):
        return (not found.kind or bool(types_of(found.kind))) and not found.family
    if found.type is ModelType.IMAGE_ENCODER:
        return found.kind.startswith("CLIP")
    if found.type is ModelType.IMAGE_PROMPT_ADAPTER:
        return found.kind in APPLIED
    whole = found.type is ModelType.TEXT_ENCODER and "images" not in found.kind
    return whole and found.kind.startswith(("CLIP", "OpenCLIP"))


def plan_component(files: ConfinedFiles) -> NetworkPlan:
    """Check a network that is a model of its own: header and shapes, no tensor data.

    Args:
        files: A file, or a folder with a `config.json` and weights.

    Raises:
        FailedPrecondition: MODEL_FORMAT_UNSUPPORTED (no such network), MODEL_INCOMPLETE,
            MODEL_CONFIG_INVALID, or what `check_weights` or `read_header` raises.
        PathOutsideRoot: A part of it is a link that leads outside the root.
        OSError: The machine cannot read it at the moment.
    """
    plan = _of_folder(files) if files.has_folder() else _of_file(files)
    check_weights(plan)
    return plan


def held_config(files: ConfinedFiles, tensors: Tensors) -> dict[str, str]:
    """The configuration beside a file with these tensors as what a header holds, for a copy
    that has none beside it; empty where the file takes none from there.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID.
        PathOutsideRoot: It is a link that leads outside the root.
        OSError: The machine cannot read it at the moment.
    """
    folder = beside(files)
    given = tensors.metadata.keys() & {HELD_FILES, CONFIGURATION}
    if given or not folder.has_file(CONFIG_FILE) or not loads_alone(recognise(tensors)):
        return {}
    config = read_config(folder, CONFIG_FILE)
    if _named_class(config) is None:
        return {}
    return {HELD_FILES: json.dumps({CONFIG_FILE: json.dumps(config)})}


def _of_folder(files: ConfinedFiles) -> NetworkPlan:
    network_class = _named_class(read_config(files, CONFIG_FILE))
    if network_class is None:
        raise _unsupported()
    weights = weight_files(files, "", network_class.weights_name)
    if network_class in _CONTROL_NETS:
        # Unions were made before there was a class for them, and say so.
        stored = {entry.name for file in weights for entry in file.header.tensors}
        network_class = CONTROL_NET_UNION if is_union(stored) else CONTROL_NET
    name = _name(network_class)
    tensors = folder_tensors(name, network_class, weights)
    config = network_config(files, CONFIG_FILE, network_class)
    return NetworkPlan(name, network_class, _sized(config, network_class, tensors), tensors)


def _of_file(files: ConfinedFiles) -> NetworkPlan:
    header = read_header(files)
    found = recognise_file(header, config_beside(files))
    check_usable(found)
    if not loads_alone(found):
        raise _unsupported()
    network_class = _class_of(found, header)
    name = _name(network_class)
    stored = _stored(WeightFile(files, "", header))
    tensors = network_tensors(name, network_class, stored)
    config = _given(files, header, network_class)
    if config is None:
        settings = _settings(found, network_class, stored)
        config = derived_config(name, network_class, tensors, settings)
    return NetworkPlan(name, network_class, _sized(config, network_class, tensors), tensors)


def _sized(
    config: Config, network_class: NetworkClass, tensors: Mapping[str, Origin]
) -> Config:
    """A union's configuration with the number of its kinds that its tensors have: ones of six
    and of eight lie in one folder beside the configuration of one of them."""
    kinds = tensors.get("task_embedding")
    if network_class is not CONTROL_NET_UNION or kinds is None or not kinds.shape:
        return config
    return config | {"num_control_type": kinds.shape[0]}


def _stored(file: WeightFile) -> Stored:
    """The network in a file, which may have the names that it has in a checkpoint."""
    entries = file.header.tensors
    for prefix in _PREFIXES:
        inner = [entry for entry in entries if entry.name.startswith(prefix)]
        if inner:
            return Stored(file, inner, prefix)
    return Stored(file, entries)


def _class_of(found: Recognised, header: Header) -> NetworkClass:
    if found.type is ModelType.VAE:
        return VAE
    if found.type is ModelType.IMAGE_ENCODER:
        return CLIP_VISION_PROJECTION
    if found.type is ModelType.IMAGE_PROMPT_ADAPTER:
        return IMAGE_PROMPT
    if found.type is ModelType.CONTROL_NET:
        return CONTROL_NET_UNION if types_of(found.kind) else CONTROL_NET
    projected = any("text_projection" in entry.name for entry in header.tensors)
    return CLIP_TEXT_PROJECTION if projected else CLIP_TEXT


def _given(files: ConfinedFiles, header: Header, network_class: NetworkClass) -> Config | None:
    """The configuration that a file names, or that lies beside it and is of its class."""
    folder = companion_of(files, header.metadata) or beside(files)
    if not folder.has_file(CONFIG_FILE):
        return None
    if _named_class(read_config(folder, CONFIG_FILE)) is not network_class:
        return None
    return network_config(folder, CONFIG_FILE, network_class)


def _settings(found: Recognised, network_class: NetworkClass, stored: Stored) -> Config:
    """What shapes do not tell of a network of its class."""
    if network_class is VAE:
        family = found.architecture and BY_ARCHITECTURE[found.architecture]
        scale = family.vae_scale if family else SD_SCALE
        return {"scaling_factor": scale, "force_upcast": True}
    if network_class in (*_CONTROL_NETS, IMAGE_PROMPT):
        return {}
    if network_class is CLIP_VISION_PROJECTION:
        return {"hidden_act": "quick_gelu" if found.kind == OPENAI_VISION else "gelu"}
    fused = any("resblocks." in name for name in stored.entries)
    opened = fused or found.kind.startswith("OpenCLIP")
    return {"hidden_act": "gelu" if opened else "quick_gelu"}


def _named_class(config: Config) -> NetworkClass | None:
    listed = config.get("architectures")
    named = config.get("_class_name") or (
        listed[0] if isinstance(listed, list) and listed else ""
    )
    return _CLASSES.get(named) if isinstance(named, str) else None


def _name(network_class: NetworkClass) -> str:
    return _NAMES[network_class.name]


def _unsupported() -> FailedPrecondition:
    return FailedPrecondition(
        "This is no VAE, ControlNet, IP-Adapter, text or image encoder of a class that this "
        "version loads.",
        reason=Reason.MODEL_FORMAT_UNSUPPORTED,
    )
