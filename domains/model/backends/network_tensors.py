"""The tensors of a network by the names that its class gives them today.

Files are laid out like folders or as the original code had them; they are as old as what wrote
them; and programs that merge, train and convert leave things behind in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from domains.model.backends.families.components import NetworkClass
from domains.model.backends.families.image_prompt import IMAGE_PROMPT
from domains.model.backends.layouts.image_prompt import image_prompt_tensors
from domains.model.backends.layouts.open_clip import EXTRAS, open_clip_tensors
from domains.model.backends.layouts.stored import Stored
from domains.model.backends.layouts.unet import unet_names
from domains.model.backends.layouts.vae import vae_names
from domains.model.backends.model_plan import Origin, WeightFile
from domains.model.backends.stored_weights import incomplete

# What names of CLIP's halves begin with, of which a network is one.
_HALF = re.compile(r"^(?:text|vision)_model\.")
# Names of the VAE's attention before diffusers 0.12, still found in files.
_OLD_NAMES = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}
_OLD_NAME = re.compile(r"(attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))")
_ATTENTION = re.compile(r"(?:en|de)coder\..*\.attentions\.\d+\.to_(?:q|k|v|out\.0)\.weight")
_TEXT_EXTRAS = r"logit_scale|visual_projection\.weight|vision_model\..*"
# What files of a class hold beside its weights, and what it computes the same without.
_EXTRAS = {
    "CLIPTextModel": rf"text_projection\.weight|{_TEXT_EXTRAS}",
    "CLIPTextModelWithProjection": _TEXT_EXTRAS,
    "CLIPVisionModelWithProjection": r"logit_scale|text_projection\.weight|text_model\..*",
    "AutoencoderKL": r"model_ema\..*|loss\..*",
}
# A constant that older versions stored, by some programs even rounded.
_POSITION_IDS = re.compile(r"(?:.*\.)?position_ids")
# How names of the original code begin, by class.
_ORIGINAL = {
    "UNet2DConditionModel": ("input_blocks.", "output_blocks."),
    "ControlNetModel": ("input_blocks.", "input_hint_block."),
    "ControlNetUnionModel": ("input_blocks.", "input_hint_block."),
    "AutoencoderKL": ("encoder.down.", "encoder.mid.", "decoder.up.", "decoder.mid."),
    "CLIPTextModel": ("transformer.resblocks.",),
    "CLIPTextModelWithProjection": ("transformer.resblocks.",),
    "CLIPVisionModelWithProjection": (),
}


def network_tensors(
    component: str, network_class: NetworkClass, stored: Stored
) -> dict[str, Origin]:
    """Where each tensor of a network comes from, by its name in `NetworkPlan.tensors`.

    Args:
        component: The network's name, for messages.
        network_class: Its class.
        stored: Its tensors in a file, in either layout.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE for what no layer has, as far as names tell, and
            for a tensor that is stored twice.
    """
    if network_class is IMAGE_PROMPT:
        tensors = image_prompt_tensors(stored)
        used = {origin.stored.name for origin in tensors.values()}
        _refuse(
            component,
            stored,
            [name for name, one in stored.entries.items() if one.name not in used],
        )
        return tensors
    extras = re.compile(_EXTRAS.get(network_class.name, r"(?!)"))
    wanted = [
        name
        for name in stored.entries
        if not _POSITION_IDS.fullmatch(name) and not extras.fullmatch(name)
    ]
    if not any(name.startswith(_ORIGINAL[network_class.name]) for name in wanted):
        names = {name: _OLD_NAME.sub(_renamed, _HALF.sub("", name)) for name in wanted}
    elif network_class.name.startswith("CLIP"):
        tensors = open_clip_tensors(stored)
        used = {origin.stored.name for origin in tensors.values()}
        known = EXTRAS | {name for name in wanted if stored.entries[name].name in used}
        _refuse(component, stored, [name for name in wanted if name not in known])
        return tensors
    elif network_class.name == "AutoencoderKL":
        names = vae_names(wanted)
    else:
        names = unet_names(wanted)
    _refuse(component, stored, [name for name in wanted if name not in names])
    found: dict[str, Origin] = {}
    again = []
    for name in wanted:
        if names[name] in found:
            again.append(name)
        found[names[name]] = _origin(stored, name, names[name])
    _refuse(component, stored, again)
    return found


def folder_tensors(
    component: str, network_class: NetworkClass, files: Iterable[WeightFile]
) -> Mapping[str, Origin]:
    """The tensors of a network that is stored in one file or in several; see
    `network_tensors`."""
    found: dict[str, Origin] = {}
    for file in files:
        tensors = network_tensors(component, network_class, Stored(file, file.header.tensors))
        again = [tensors[name].stored.name for name in tensors.keys() & found.keys()]
        if again:
            raise incomplete(component, [], again)
        found |= tensors
    return found


def _origin(stored: Stored, name: str, new: str) -> Origin:
    shape = stored.entries[name].shape
    # The original attends by convolutions of one pixel.
    flat = len(shape) == 4 and shape[2:] == (1, 1) and _ATTENTION.fullmatch(new)
    return stored.origin(name, shape=shape[:2] if flat else None)


def _refuse(component: str, stored: Stored, unexpected: list[str]) -> None:
    if unexpected:
        raise incomplete(component, [], [stored.prefix + name for name in unexpected])


def _renamed(old: re.Match[str]) -> str:
    return old[1] + _OLD_NAMES[old[2]] + old[3]
