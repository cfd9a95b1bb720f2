"""A model folder in the diffusers layout: what it holds, checked before anything is built.

The folder's index names classes; they are looked up in a table here and never imported
because a file says so. Only safetensors weights are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from typing import NoReturn

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.bounds import Config
from domains.model.backends.component_config import (
    check_config,
    read_config,
    read_shard_names,
)
from domains.model.backends.families.components import SCHEDULER, NetworkClass
from domains.model.backends.families.family import Family
from domains.model.backends.families.registry import FAMILIES, PIPELINES
from domains.model.backends.model_card import one_line
from domains.model.backends.model_files import Fingerprint, ModelFiles
from domains.model.backends.safetensors_header import Header, read_header
from domains.model.types import Architecture

INDEX = "model_index.json"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
_LIBRARIES = frozenset({"diffusers", "transformers", None})
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
MAX_TOKENIZER_FILE_BYTES = 64 << 20
# Full precision first, then the halves; a training-only copy without EMA comes last.
_VARIANTS = ("", "fp32", "fp16", "bf16")


@dataclass(frozen=True)
class WeightFile:
    """One safetensors file and its checked header; `name` has slashes."""

    files: ModelFiles
    name: str
    header: Header

    def open(self) -> FileIO:
        """The file anew; see `ModelFiles.open`."""
        return self.files.open(self.name)


@dataclass(frozen=True)
class NetworkPlan:
    """One network to build: its class, checked configuration and weight files."""

    name: str
    network_class: NetworkClass
    config: Config
    files: tuple[WeightFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of tensor data over all files."""
        return sum(t.size_bytes for file in self.files for t in file.header.tensors)


@dataclass(frozen=True)
class FolderPlan:
    """Everything of a model folder that generation needs, checked and not yet built."""

    files: ModelFiles
    architecture: Architecture
    index: Config
    networks: tuple[NetworkPlan, ...]
    tokenizers: Mapping[str, str]
    scheduler_config: Config

    @property
    def size_bytes(self) -> int:
        """Bytes of tensor data over all networks."""
        return sum(network.size_bytes for network in self.networks)


def inspect_folder(files: ModelFiles) -> FolderPlan:
    """Check a model folder: index, configurations and weight headers, no tensor data.

    Raises:
        FailedPrecondition: MODEL_FORMAT_UNSUPPORTED (not such a folder, or a pipeline
            this server does not run), MODEL_INCOMPATIBLE (a part it needs is absent by
            design, as in a refiner, or the parts make no model of the family),
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
    index = read_config(files, INDEX)
    family = _family(index)
    _check_index(index, family)
    _refuse_code(files, family)
    for tokenizer in family.tokenizers:
        _check_tokenizer(files, tokenizer)
    scheduler = read_config(files, SCHEDULER_CONFIG)
    check_config(scheduler, SCHEDULER, called=SCHEDULER_CONFIG)
    networks = tuple(_plan_network(files, *network) for network in family.networks.items())
    why = family.incompatible({network.name: network.config for network in networks})
    if why:
        raise FailedPrecondition(
            f"The model is not a complete {family.title} model: {why}.",
            reason=Reason.MODEL_INCOMPATIBLE,
        )
    return FolderPlan(
        files,
        family.architecture,
        index,
        networks,
        family.tokenizers,
        family.mend_scheduler(scheduler),
    )


def fingerprint(files: ModelFiles) -> Fingerprint:
    """The state of every file that a model may be made of.

    Two equal fingerprints mean that nothing was changed on disk in between.

    Raises: As `ModelFiles.names`.
    """
    parts = {name for family in FAMILIES for name in (*family.networks, *family.tokenizers)}
    return files.fingerprint(["", *sorted(parts | {"scheduler"})])


def _family(index: Config) -> Family:
    class_name = index.get("_class_name")
    family = PIPELINES.get(class_name) if isinstance(class_name, str) else None
    if family is None:
        raise FailedPrecondition(
            "The model's pipeline class is not one this server runs: "
            f"{', '.join(sorted(PIPELINES))}.",
            reason=Reason.MODEL_FORMAT_UNSUPPORTED,
        )
    return family


def _check_index(index: Config, family: Family) -> None:
    libraries = _LIBRARIES | family.libraries
    for name, value in index.items():
        if not isinstance(value, list):
            continue
        if len(value) != 2 or not all(part is None or isinstance(part, str) for part in value):
            _refuse_index(f"gives {one_line(name, 64)!r} no library and class")
        if value[0] not in libraries:
            _refuse_index(f"names an unknown library for {one_line(name, 64)!r}")
    for name, network in family.networks.items():
        _check_part(index, name, {network.name})
    for name, tokenizer in family.tokenizers.items():
        _check_part(index, name, {tokenizer, f"{tokenizer}Fast"})


def _check_part(index: Config, name: str, class_names: set[str]) -> None:
    """Look at a part of an index whose lists are all pairs of texts or nulls."""
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


def _refuse_code(files: ModelFiles, family: Family) -> None:
    """A folder that brings Python with it expects it to run; it would draw otherwise here."""
    for folder in ("", *family.networks):
        if any(name.endswith(".py") for name in files.names(folder)):
            raise FailedPrecondition(
                "The model folder holds Python code, which is never run.",
                reason=Reason.MODEL_CONFIG_INVALID,
            )


def _check_tokenizer(files: ModelFiles, tokenizer: str) -> None:
    there = {name for name in TOKENIZER_FILES if files.has_file(f"{tokenizer}/{name}")}
    if "tokenizer.json" not in there and not {"vocab.json", "merges.txt"} <= there:
        raise FailedPrecondition(
            f"The model's {tokenizer} has neither a tokenizer.json nor a vocabulary.",
            reason=Reason.MODEL_INCOMPLETE,
            metadata={"component": tokenizer},
        )
    for name in sorted(there):
        with files.open(f"{tokenizer}/{name}") as file:
            if os.fstat(file.fileno()).st_size > MAX_TOKENIZER_FILE_BYTES:
                raise FailedPrecondition(
                    f"The model's {tokenizer}/{name} is too large.",
                    reason=Reason.MODEL_CONFIG_INVALID,
                )


def _plan_network(files: ModelFiles, name: str, network_class: NetworkClass) -> NetworkPlan:
    called = f"{name}/config.json"
    config = {**network_class.defaults, **read_config(files, called)}
    check_config(config, network_class.bounds, called=called)
    weights = tuple(
        WeightFile(files, file, read_header(files, file))
        for file in _weight_files(files, name, network_class.weights_name)
    )
    return NetworkPlan(name, network_class, config, weights)


def _weight_files(files: ModelFiles, component: str, stem: str) -> list[str]:
    """The files of a component's best variant: one, or the shards an index lists."""
    for variant in _variants(files.names(component), stem):
        dotted = f".{variant}" if variant else ""
        single = f"{component}/{stem}{dotted}.safetensors"
        if files.has_file(single):
            return [single]
        for index_name in (
            f"{component}/{stem}.safetensors.index{dotted}.json",
            f"{component}/{stem}{dotted}.safetensors.index.json",
        ):
            if files.has_file(index_name):
                return _shards(files, component, index_name)
    raise FailedPrecondition(
        f"The model's {component} has no safetensors weights.",
        reason=Reason.MODEL_INCOMPLETE,
        metadata={"component": component},
    )


def _variants(names: Iterable[str], stem: str) -> Iterator[str]:
    yield from _VARIANTS
    pattern = re.compile(re.escape(stem) + r"\.([A-Za-z0-9_-]{1,32})\.safetensors")
    matches = map(pattern.fullmatch, names)
    others = sorted(match[1] for match in matches if match and match[1] not in _VARIANTS)
    yield from sorted(others, key=lambda variant: variant == "non_ema")


def _shards(files: ModelFiles, component: str, index_name: str) -> list[str]:
    names = read_shard_names(files, index_name)
    for name in names:
        if not files.has_file(f"{component}/{name}"):
            raise FailedPrecondition(
                f"The model's {component} misses a weight file that its index lists.",
                reason=Reason.MODEL_INCOMPLETE,
                metadata={"component": component, "missing": name},
            )
    return [f"{component}/{name}" for name in names]
