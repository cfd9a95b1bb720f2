"""Which files hold a network's weights: of several variants one, whole or in shards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.component_config import read_shard_names
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.model_plan import WeightFile
from domains.model.backends.safetensors_header import read_header

# Full precision first, then the halves; a training-only copy without EMA comes last.
_VARIANTS = ("", "fp32", "fp16", "bf16")


def weight_files(files: ConfinedFiles, component: str, stem: str) -> tuple[WeightFile, ...]:
    """The files of the best variant of a component that can be read, with their headers.

    A download often has one variant whole and of the others pointers or beginnings.

    Args:
        files: Of the model.
        component: Its folder in the model; nothing where the model is one network.
        stem: What its files are called, without variant and ending.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE where there is none; otherwise why the first
            cannot be read, as `read_header`, or MODEL_CONFIG_INVALID of an index of shards.
        PathOutsideRoot: One is a link that leads outside the root.
        OSError: The machine cannot read one at the moment.
    """
    before = f"{component}/" if component else ""
    refused: FailedPrecondition | None = None
    for variant in _variants(files.names(component), stem):
        try:
            names = _names(files, before, stem, f".{variant}" if variant else "")
            if names:
                return tuple(
                    WeightFile(files, name, read_header(files, name)) for name in names
                )
        except FailedPrecondition as error:
            refused = refused or error
    raise refused or FailedPrecondition(
        f"The model's {component or 'folder'} has no safetensors weights.",
        reason=Reason.MODEL_INCOMPLETE,
        metadata={"component": component} if component else {},
    )


def _names(files: ConfinedFiles, before: str, stem: str, dotted: str) -> list[str]:
    """The files of a variant: one, or the shards that an index lists; or none."""
    single = f"{before}{stem}{dotted}.safetensors"
    if files.has_file(single):
        return [single]
    for index_name in (
        f"{before}{stem}.safetensors.index{dotted}.json",
        f"{before}{stem}{dotted}.safetensors.index.json",
    ):
        if files.has_file(index_name):
            return [f"{before}{name}" for name in read_shard_names(files, index_name)]
    return []


def _variants(names: Iterable[str], stem: str) -> Iterator[str]:
    yield from _VARIANTS
    pattern = re.compile(re.escape(stem) + r"\.([A-Za-z0-9_-]{1,32})\.safetensors")
    matches = map(pattern.fullmatch, names)
    others = sorted(match[1] for match in matches if match and match[1] not in _VARIANTS)
    yield from sorted(others, key=lambda variant: variant == "non_ema")
