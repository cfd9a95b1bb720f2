"""What is to be built of a model's files: networks, and where each of their tensors comes from.

A folder in the diffusers layout and a single file give the same kind of plan, so everything
behind it has one road. It is made from headers alone, in plain Python.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO

from domains.model.backends.bounds import Config
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.safetensors_header import Header, TensorEntry
from domains.model.backends.tokenizer_files import TokenizerPlan
from domains.model.types import Architecture, ModelType


@dataclass(frozen=True)
class WeightFile:
    """One safetensors file and its checked header; `name` has slashes, and is empty for a model
    that is one file."""

    files: ConfinedFiles
    name: str
    header: Header

    def open(self) -> FileIO:
        """The file anew; see `ConfinedFiles.open`."""
        return self.files.open(self.name)


@dataclass(frozen=True)
class Origin:
    """Which stored tensor fills a tensor of a network, and what becomes of it on the way.

    Attributes:
        file: Where it is stored.
        stored: What is stored.
        shape: Of the network's tensor; another shape of as many numbers is reshaped.
        rows: Those of the stored tensor that are taken, first and one behind the last; all
            where it is None.
        transposed: Whether its two dimensions change places.
        scale: One number that all of it is multiplied by, stored in the same file.
    """

    file: WeightFile
    stored: TensorEntry
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None
    transposed: bool = False
    scale: TensorEntry | None = None


@dataclass(frozen=True)
class NetworkPlan:
    """One network to build: its class, its checked configuration and the origin of each tensor.

    `tensors` has the names that folders of its class use today, without `text_model.`, which
    versions of the library differ in.
    """

    name: str
    network_class: NetworkClass
    config: Config
    tensors: Mapping[str, Origin]

    @property
    def files(self) -> tuple[WeightFile, ...]:
        """The files that its tensors come from."""
        return tuple({each.file.name: each.file for each in self.tensors.values()}.values())

    def entries(self, file: WeightFile) -> dict[str, TensorEntry]:
        """What is read of a file, by the names that it has there."""
        found = {}
        for origin in self.tensors.values():
            if origin.file.name == file.name:
                found[origin.stored.name] = origin.stored
                if origin.scale is not None:
                    found[origin.scale.name] = origin.scale
        return found

    @property
    def stored(self) -> tuple[TensorEntry, ...]:
        """Every stored tensor that is read for it."""
        return tuple(entry for file in self.files for entry in self.entries(file).values())

    @property
    def size_bytes(self) -> int:
        """Bytes of tensor data that are read for it."""
        return sum(entry.size_bytes for entry in self.stored)

    @property
    def parameter_count(self) -> int:
        """Numbers in all its tensors."""
        return sum(math.prod(origin.shape) for origin in self.tensors.values())


@dataclass(frozen=True)
class ModelPlan:
    """Everything of a model that generation needs, checked and not yet built.

    `index` says what a folder's `model_index.json` says; `type` is CHECKPOINT or REFINER.
    `borrowed` names networks that a refiner's folder leaves to the checkpoint it is used with;
    a checkpoint may leave its VAE to requests, and then `lent_vae` is what is known of it.
    """

    files: ConfinedFiles
    architecture: Architecture
    index: Config
    networks: tuple[NetworkPlan, ...]
    tokenizers: Mapping[str, TokenizerPlan]
    scheduler_config: Config
    type: ModelType = ModelType.CHECKPOINT
    borrowed: tuple[str, ...] = ()
    lent_vae: Config | None = None

    @property
    def configs(self) -> dict[str, Config]:
        """Of its networks by name, and of the VAE that requests lend it."""
        lent = {} if self.lent_vae is None else {"vae": self.lent_vae}
        return lent | {network.name: network.config for network in self.networks}

    @property
    def draws_from_text(self) -> bool:
        """Whether it is a whole checkpoint whose UNet takes latents and no mask beside them."""
        if self.type is not ModelType.CHECKPOINT or self.borrowed:
            return False
        configs = self.configs
        return bool(configs["unet"]["in_channels"] == configs["vae"]["latent_channels"])

    @property
    def size_bytes(self) -> int:
        """Bytes of tensor data over all networks."""
        return sum(network.size_bytes for network in self.networks)
