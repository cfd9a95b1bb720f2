"""A model folder in the diffusers layout: what it holds, checked before anything is built.

The folder's index names classes; they are looked up in a table here and never imported
because a file says so. Only safetensors weights are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.bounds import Config
from domains.model.backends.component_config import (
    check_config,
    read_config,
    read_shard_names,
)
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.families.family import INDEX, Family
from domains.model.backends.families.registry import FAMILIES, PIPELINES
from domains.model.backends.families.schedulers import SCHEDULER
from domains.model.backends.safetensors_header import Header, read_header
from domains.model.backends.sizes import check_native_size
from domains.model.backends.stored_weights import check_weights
from domains.model.backends.tokenizer_files import TokenizerPlan, check_ids, read_tokenizer
from domains.model.types import Architecture

_LIBRARIES = {"diffusers", "transformers", None}
_TOKENIZERS = {"CLIPTokenizer", "CLIPTokenizerFast"}
# Full precision first, then the halves; a training-only copy without EMA comes last.
_VARIANTS = ("", "fp32", "fp16", "bf16")


@dataclass(frozen=True)
class WeightFile:
    """One safetensors file and its checked header."""

    path: Path
    header: Header


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

    path: Path
    architecture: Architecture
    index: Config
    networks: tuple[NetworkPlan, ...]
    tokenizers: Mapping[str, TokenizerPlan]
    scheduler_config: Config

    @property
    def size_bytes(self) -> int:
        """Bytes of tensor data over all networks."""
        return sum(network.size_bytes for network in self.networks)


def inspect_folder(path: Path) -> FolderPlan:
    """Check a model folder: index, configurations and weight headers, no tensor data.

    Raises:
        FailedPrecondition: MODEL_FORMAT_UNSUPPORTED (not such a folder, or a pipeline
            this server does not run), MODEL_INCOMPATIBLE (a part it needs is absent by
            design, as in a refiner, or the parts make no model of the family),
            MODEL_INCOMPLETE (a file is missing), MODEL_CONFIG_INVALID, or what
            `read_header` raises.
    """
    if not path.is_dir():
        raise FailedPrecondition(
            "The model is not a folder in the diffusers layout.",
            reason=Reason.MODEL_FORMAT_UNSUPPORTED,
        )
    index = read_config(path / "model_index.json", called="model_index.json")
    family = _family(index)
    check_config(index, INDEX, called="model_index.json")
    _check_index(index, family)
    _refuse_code(path, family)
    tokenizers = {
        name: read_tokenizer(path / name, encoder)
        for name, encoder in family.tokenizers.items()
    }
    called = "scheduler/scheduler_config.json"
    scheduler = read_config(path / "scheduler" / "scheduler_config.json", called=called)
    check_config(scheduler, SCHEDULER, called=called)
    networks = tuple(_plan_network(path, *network) for network in family.networks.items())
    configs = {network.name: network.config for network in networks}
    why = family.incompatible(configs)
    if why:
        raise FailedPrecondition(
            f"The model is not a complete {family.title} model: {why}.",
            reason=Reason.MODEL_INCOMPATIBLE,
        )
    check_native_size(configs["unet"], configs["vae"])
    for network in networks:
        headers = (file.header for file in network.files)
        check_weights(network.name, network.network_class, network.config, headers)
    for tokenizer in tokenizers.values():
        check_ids(tokenizer, tokenizer.largest_id, configs[tokenizer.encoder]["vocab_size"])
    return FolderPlan(
        path,
        family.architecture,
        index,
        networks,
        tokenizers,
        family.mend_scheduler(scheduler),
    )


def fingerprint(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size in bytes and modification time in nanoseconds of each of its files.

    Two equal fingerprints mean that nothing was changed on disk in between.
    """
    found = []
    for folder in (path, *_folders(path)):
        try:
            for file in sorted(folder.iterdir()):
                if file.is_file():
                    state = file.stat()
                    name = str(file.relative_to(path))
                    found.append((name, state.st_size, state.st_mtime_ns))
        except OSError:
            continue
    return tuple(found)


def _folders(path: Path) -> Iterator[Path]:
    names = {name for family in FAMILIES for name in (*family.networks, *family.tokenizers)}
    for name in sorted(names | {"scheduler"}):
        if (path / name).is_dir():
            yield path / name


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
        if len(value) != 2 or value[0] not in libraries:
            _refuse_index(f"names an unknown library for {name[:64]!r}")
    for name, network in family.networks.items():
        _check_part(index, name, {network.name})
    for name in family.tokenizers:
        _check_part(index, name, _TOKENIZERS)


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


def _refuse_code(path: Path, family: Family) -> None:
    """A folder that brings Python with it expects it to run; it would draw otherwise here."""
    for folder in (path, *(path / name for name in family.networks)):
        if folder.is_dir() and any(file.suffix == ".py" for file in folder.iterdir()):
            raise FailedPrecondition(
                "The model folder holds Python code, which is never run.",
                reason=Reason.MODEL_CONFIG_INVALID,
            )


def _plan_network(path: Path, name: str, network_class: NetworkClass) -> NetworkPlan:
    called = f"{name}/config.json"
    given = read_config(path / name / "config.json", called=called)
    # Null means the default where the library would otherwise work one out.
    defaults = dict(network_class.defaults)
    config = defaults | {k: v for k, v in given.items() if v is not None or k not in defaults}
    check_config(config, network_class.bounds, called=called)
    paths = _weight_files(path / name, network_class.weights_name)
    files = tuple(WeightFile(file, read_header(file)) for file in paths)
    return NetworkPlan(name, network_class, config, files)


def _weight_files(folder: Path, stem: str) -> list[Path]:
    """The files of the best variant in `folder`: one, or the shards an index lists."""
    for variant in _variants(folder, stem):
        dotted = f".{variant}" if variant else ""
        single = folder / f"{stem}{dotted}.safetensors"
        if single.is_file():
            return [single]
        for index_name in (
            f"{stem}.safetensors.index{dotted}.json",
            f"{stem}{dotted}.safetensors.index.json",
        ):
            if (folder / index_name).is_file():
                return _shards(folder, index_name)
    raise FailedPrecondition(
        f"The model's {folder.name} has no safetensors weights.",
        reason=Reason.MODEL_INCOMPLETE,
        metadata={"component": folder.name},
    )


def _variants(folder: Path, stem: str) -> Iterator[str]:
    yield from _VARIANTS
    pattern = re.compile(re.escape(stem) + r"\.([A-Za-z0-9_-]{1,32})\.safetensors")
    names = (pattern.fullmatch(file.name) for file in folder.iterdir())
    others = sorted(match[1] for match in names if match and match[1] not in _VARIANTS)
    yield from sorted(others, key=lambda variant: variant == "non_ema")


def _shards(folder: Path, index_name: str) -> list[Path]:
    called = f"{folder.name}/{index_name}"
    names = read_shard_names(folder / index_name, called=called)
    for name in names:
        if not (folder / name).is_file():
            raise FailedPrecondition(
                f"The model's {folder.name} misses a weight file that its index lists.",
                reason=Reason.MODEL_INCOMPLETE,
                metadata={"component": folder.name, "missing": name},
            )
    return [folder / name for name in names]
