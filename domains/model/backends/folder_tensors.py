"""A folder's weights by the names that its class gives them today, without what nothing needs.

Files are as old as the versions that wrote them, and programs that merge, train and convert
leave things behind in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from domains.model.backends.families.components import NetworkClass
from domains.model.backends.model_plan import Origin, WeightFile
from domains.model.backends.stored_weights import incomplete

_TEXT_MODEL = "text_model."
# Names of the VAE's attention before diffusers 0.12, still found in files.
_OLD_NAMES = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}
_OLD_NAME = re.compile(r"(attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))")
# What files of a class hold beside its weights, and what it computes the same without.
_EXTRAS = {
    "CLIPTextModel": r"text_projection\.weight|logit_scale|visual_projection\.weight"
    r"|vision_model\..*",
    "CLIPTextModelWithProjection": r"logit_scale|visual_projection\.weight|vision_model\..*",
    "AutoencoderKL": r"model_ema\..*|loss\..*",
}
# A constant that older versions stored, by some programs even rounded.
_POSITION_IDS = re.compile(r"(?:.*\.)?position_ids")


def folder_tensors(
    component: str, network_class: NetworkClass, files: Iterable[WeightFile]
) -> Mapping[str, Origin]:
    """Where each tensor of a network comes from, by its name in `NetworkPlan.tensors`.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE for a tensor that is stored twice.
    """
    extras = re.compile(_EXTRAS.get(network_class.name, r"(?!)"))
    found: dict[str, Origin] = {}
    again = []
    for file in files:
        for entry in file.header.tensors:
            if _POSITION_IDS.fullmatch(entry.name) or extras.fullmatch(entry.name):
                continue
            name = _OLD_NAME.sub(_renamed, entry.name.removeprefix(_TEXT_MODEL))
            if name in found:
                again.append(entry.name)
            found.setdefault(name, Origin(file, entry, entry.shape))
    if again:
        raise incomplete(component, [], again)
    return found


def _renamed(old: re.Match[str]) -> str:
    return old[1] + _OLD_NAMES[old[2]] + old[3]
