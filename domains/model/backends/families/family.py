"""What a family of models says of itself: enough to list, check and build its models.

Widths are those of the public configurations (`configs/` of the original repositories,
`config.json` of diffusers').
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from domains.model.backends.bounds import Config, ConfigBounds, Flag, Line
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.recognised import Recognised
from domains.model.types import Architecture, ModelType, PredictionType

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


SD_SCALE = 0.18215
"""What latents of the VAE of SD 1.x are multiplied by, and of those trained from it."""


@dataclass(frozen=True)
class UnetFacts:
    """What the tensors of a UNet show; 0 where there is none.

    Attributes:
        channels: Of its input: latents and what is concatenated to them.
        width: Of the text embeddings that it attends to.
        vector: Width of its further input, sizes and pooled text.
        depth: Transformer layers of the last block before the middle.
        middle: Those of the block in the middle.
        labelled: Whether it takes a number of a class.
    """

    channels: int
    width: int
    vector: int
    depth: int
    middle: int
    labelled: bool = False


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
        vector_widths: Of further inputs of its UNets, which with a width of `attention_widths`
            show it.
        any_vector: Whether a UNet with a further input of an unknown width is taken for its.
        describe_unet: Given what is known of a file with a UNet of its, and the UNet's facts:
            the same with what they tell of it in this family.
        prediction: What its checkpoints predict where nothing says; None if that has to be
            said.
        native_sizes: Edge in pixels that its models were trained at, by what they predict,
            where its tensors do not show it.
        vae_scale: What its VAE's latents are multiplied by.
        embedding_width: Of a textual inversion made for it alone; 0 if there is none.
        lora_layers: In layers of LoRAs whose widths do not tell, names of this family alone.
        lora_text_width: Of the text encoder that shows a LoRA for it where nothing else does.
        refiner_width: Of text embeddings that its refiners attend to; 0 if it has none.
        standard_names: Its architectures in the model metadata standard (modelspec).
        trainer_names: How kohya-ss/sd-scripts begins the names of base models of it.
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
    vector_widths: frozenset[int] = frozenset()
    any_vector: bool = False
    describe_unet: Callable[[Recognised, UnetFacts], Recognised] = lambda found, _facts: found
    prediction: PredictionType | None = None
    native_sizes: Mapping[PredictionType, int] = field(default_factory=dict)
    vae_scale: float = SD_SCALE
    embedding_width: int = 0
    lora_layers: re.Pattern[str] | None = None
    lora_text_width: int = 0
    refiner_width: int = 0
    standard_names: frozenset[str] = frozenset()
    trainer_names: tuple[str, ...] = ()
    pipelines: frozenset[str] = frozenset()
    libraries: frozenset[str] = frozenset()
    networks: Mapping[str, NetworkClass] = field(default_factory=dict)
    tokenizers: Mapping[str, str] = field(default_factory=dict)
    incompatible: Callable[[Mapping[str, Config]], str] = lambda _configs: ""
    mend_scheduler: Callable[[Config], Config] = lambda config: config
    refiner: Family | None = None

    @property
    def drawn(self) -> bool:
        """Whether pictures are drawn with its models, or they are only recognised."""
        return bool(self.pipelines)


def has_part(index: Mapping[str, Any], name: str) -> bool:
    """Whether an index names a class for a part; parts that a model lacks are null."""
    entry = index.get(name)
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)
