"""What a family of models says of itself: enough to list, check and build its models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from domains.model.backends.bounds import Config, ConfigBounds, Flag, Line
from domains.model.backends.families.components import NetworkClass
from domains.model.types import Architecture, ModelType

INDEX = ConfigBounds(
    {
        "_class_name": Line(128),
        "add_watermarker": Flag(),
        "force_zeros_for_empty_prompt": Flag(),
        "requires_aesthetics_score": Flag(),
        "requires_safety_checker": Flag(),
    }
)
"""Of `model_index.json`, whose other keys name the parts."""


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        architecture: Which one it is.
        title: What people call it.
        recognise_folder: Given a folder's index and its UNet's configuration, both as far
            as they can be read: what the folder is; None if it is not of this family.
        marks: By type of model, names of tensors that only this family's single files have.
        attention_widths: Of text embeddings in its UNet's cross-attention.
        embedding_width: Of a textual inversion made for it alone; 0 if there is none.
        standard_names: Its architectures in the model metadata standard (modelspec).
        pipelines: Classes of the index that can be drawn with; none where models are
            recognised only, and then all that follows is empty.
        libraries: Modules of diffusers that an index may name beside the usual libraries.
        networks: Folder and class of each, in the order in which they are loaded.
        tokenizers: Folder of each, which is CLIP's, and the text encoder that it is for.
        incompatible: Given the networks' configurations by folder, each within its bounds:
            why they make no model of the family, as a clause; empty when they make one.
        refiner: The same of folders of its refiners, where it has some.
        mend_scheduler: Gives a scheduler's configuration as the family's models mean it.
    """

    architecture: Architecture
    title: str
    recognise_folder: Callable[[Mapping[str, Any], Mapping[str, Any]], ModelType | None]
    marks: Mapping[ModelType, re.Pattern[str]] = field(default_factory=dict)
    attention_widths: frozenset[int] = frozenset()
    embedding_width: int = 0
    standard_names: frozenset[str] = frozenset()
    pipelines: frozenset[str] = frozenset()
    libraries: frozenset[str] = frozenset()
    networks: Mapping[str, NetworkClass] = field(default_factory=dict)
    tokenizers: Mapping[str, str] = field(default_factory=dict)
    incompatible: Callable[[Mapping[str, Config]], str] = lambda _configs: ""
    mend_scheduler: Callable[[Config], Config] = lambda config: config
    refiner: Family | None = None


def has_part(index: Mapping[str, Any], name: str) -> bool:
    """Whether an index names a class for a part; parts that a model lacks are null."""
    entry = index.get(name)
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)
