"""Model files for tests: real headers over data that is not there (sparse files)."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domains.model.backends.model_files import ModelFiles
from domains.values import ModelPlace

DEMO = Path(__file__).parents[3] / "demo" / "models" / "emoji-xl"
_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}


def write_safetensors(
    path: Path,
    shapes: Mapping[str, Sequence[int]],
    *,
    data_type: str = "F16",
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A whole and valid file with these tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * _BYTES[data_type]
        header[name] = {"dtype": data_type, "shape": list(shape), "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    os.truncate(path, 8 + len(raw) + end)
    return path


def files_at(path: Path) -> ModelFiles:
    """The files of a model whose root is the folder that it lies in."""
    return ModelFiles(ModelPlace.of(path))


def copy_demo(to: Path) -> Path:
    """The demo model, free to be damaged."""
    shutil.copytree(DEMO, to)
    return to


def edit(path: Path, **changes: Any) -> None:
    """Change top-level keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
