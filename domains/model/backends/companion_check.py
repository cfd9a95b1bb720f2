"""What is wrong with a file that goes with a checkpoint, by its header and by itself."""

from __future__ import annotations

from collections.abc import Mapping

from domains.model.backends.embedding_file import parse_embedding
from domains.model.backends.families.registry import FAMILIES
from domains.model.backends.lora.file import Finding, check_lora
from domains.model.backends.recognition import Tensors, recognise
from domains.model.backends.safetensors_header import Header, Table, TensorEntry
from domains.model.types import ModelType

# Layers of others may be a transformer's, which are not taken apart here.
_FOREIGN = frozenset(family.architecture for family in FAMILIES if not family.drawn)


def check_companion(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Finding, ...]:
    """Whether a LoRA or an embedding is whole; nothing is found in files of other types, nor in
    those for families that are not drawn with.

    Args:
        shapes: Of the file's tensors, by name.
    """
    found = recognise(Tensors(shapes))
    if found.family or found.architecture in _FOREIGN:
        return ()
    # Nothing is read: where the numbers lie is of no interest.
    entries = tuple(TensorEntry(name, "F16", shape, 0, 0) for name, shape in shapes.items())
    header = Header(Table(entries), {}, 0, b"")
    match found.type:
        case ModelType.LORA:
            return check_lora(header)
        case ModelType.EMBEDDING:
            return parse_embedding(header).findings
    return ()
