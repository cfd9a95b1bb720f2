"""Every kind of file of the corpus, by a name for tests."""

from __future__ import annotations

from functools import cache
from itertools import chain
from pathlib import Path

from tests.domains.model.corpus import (
    adapters,
    checkpoints,
    controls,
    encoders,
    enlargers,
    families,
    quantised,
)
from tests.domains.model.corpus.sample import Sample
from tests.domains.model.disk import write_safetensors

_MODULES = (checkpoints, families, adapters, controls, encoders, enlargers, quantised)


@cache
def kinds() -> dict[str, Sample]:
    """All of them; a name stands for one kind."""
    found: dict[str, Sample] = {}
    for name, sample in chain.from_iterable(module.samples() for module in _MODULES):
        assert name not in found, name
        found[name] = sample
    return found


def write(folder: Path, name: str) -> Path:
    """A file of a kind: a whole header, and as many bytes after it as it says, all holes."""
    sample = kinds()[name]
    return write_safetensors(
        folder / f"{name}.safetensors",
        sample.shapes,
        data_types=sample.data_types,
        metadata=sample.metadata,
    )
