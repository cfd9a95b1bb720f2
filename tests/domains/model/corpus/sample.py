"""One file of the corpus: what is in it, and what it must be recognised as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from domains.model.types import Architecture, ModelType
from tests.domains.model.corpus.parts import Shapes


@dataclass(frozen=True)
class Sample:
    """A file and what it is.

    Attributes:
        shapes: Its tensors.
        type: What it must be recognised as, and so on; `told` has the other attributes of
            `Recognised` that must have these values.
        data_types: Element types of tensors that are not F16.
        metadata: Its header's texts.
    """

    shapes: Shapes
    type: ModelType | None
    architecture: Architecture | None = None
    kind: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)
    data_types: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
