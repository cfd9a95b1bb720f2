"""What a single file leaves to others: a configuration that it names, and CLIP's tokenizer.

Shapes do not tell everything, and a file holds no tokenizer. Most models have what all of their
family have. A file of which that is not true names the folder that says it, by
`deviceops.configuration` in its metadata: a folder in the diffusers layout, with or without
weights, that lies beside the file or came with the program. One that was made of a folder holds
that folder's configurations itself, see `held_files`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.component_config import ConfigFiles
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.held_files import HELD_FILES, HeldFiles
from domains.model.backends.tokenizer_files import TokenizerPlan, read_tokenizer
from domains.model.errors import PathOutsideRoot
from domains.values import ModelPlace

CONFIGURATION = "deviceops.configuration"
CLIP_TOKENS = 49_408
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")
_BUNDLED = Path(__file__).parent / "bundled"
_DEMO = Path(__file__).resolve().parents[3] / "demo"
# Those of the demo family.
_KNOWN = (_DEMO / "models", _DEMO / "configs")


def beside(files: ConfinedFiles) -> ConfinedFiles:
    """What lies in the folder of a model that is one file."""
    return ConfinedFiles(ModelPlace(files.place.root, files.place.inside.parent))


def companion_of(files: ConfinedFiles, metadata: Mapping[str, str]) -> ConfigFiles | None:
    """The configuration that a file holds, or the folder of the one that it names; None if it
    has neither.

    Args:
        files: The model that is one file.
        metadata: From its header.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID for what is no name or no configuration,
            MODEL_INCOMPLETE where there is no such folder.
    """
    held = metadata.get(HELD_FILES)
    if held is not None:
        return HeldFiles.of(held, clip_files())
    named = metadata.get(CONFIGURATION)
    if named is None:
        return None
    parts = named.split("/")
    if not all(map(_NAME.fullmatch, parts)) or len(parts) > 2:
        raise FailedPrecondition(
            f"The file's metadata has a {CONFIGURATION} that is no name of a folder.",
            reason=Reason.MODEL_CONFIG_INVALID,
        )
    inside = files.place.inside.parent.joinpath(*parts)
    places = [ModelPlace(files.place.root, inside)]
    places += [ModelPlace(root, Path(*parts)) for root in _KNOWN if root.is_dir()]
    for place in places:
        found = ConfinedFiles(place)
        # A link that leads outside the root is no folder beside the file.
        with suppress(PathOutsideRoot):
            if found.has_folder():
                return found
    raise FailedPrecondition(
        f"The file names {named!r} as the folder of its configuration, and there is none "
        "beside it; put that folder there.",
        reason=Reason.MODEL_INCOMPLETE,
        metadata={"missing": named},
    )


def clip_files() -> ConfinedFiles:
    """The files of CLIP's tokenizer, which come with the program."""
    return ConfinedFiles(ModelPlace(_BUNDLED, Path("clip-tokenizer")))


@lru_cache(maxsize=1)
def _clip() -> TokenizerPlan:
    return read_tokenizer(clip_files(), "", "")


def clip_tokenizer(component: str, encoder: str, padding: str) -> TokenizerPlan:
    """CLIP's tokenizer for a text encoder.

    Args:
        component: What it is called in the model.
        encoder: The text encoder that it is for.
        padding: The token that texts are filled up with.
    """
    plan = _clip()
    arguments = {**plan.options.arguments, "pad_token": padding}
    return replace(
        plan,
        component=component,
        encoder=encoder,
        options=replace(plan.options, arguments=arguments),
    )
