"""Model files for tests: real headers over data that is not there (sparse files)."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from domains.model.backends.confined_files import ConfinedFiles
from domains.values import ModelPlace

DEMO = Path(__file__).parents[3] / "demo" / "models" / "emoji-xl"
_BYTES = {
    **dict.fromkeys(("BOOL", "F8_E4M3", "F8_E5M2", "I8", "U8"), 1),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 2),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F64", "I64", "U64"), 8),
}


def write_safetensors(
    path: Path,
    shapes: Mapping[str, Sequence[int]],
    *,
    data_type: str = "F16",
    data_types: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A whole and valid file with these tensors; of `data_type` but for `data_types`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        own = (data_types or {}).get(name, data_type)
        start, end = end, end + math.prod(shape) * _BYTES[own]
        header[name] = {"dtype": own, "shape": list(shape), "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    os.truncate(path, 8 + len(raw) + end)
    return path


def files_at(path: Path) -> ConfinedFiles:
    """The files of a model whose root is the folder that it lies in."""
    return ConfinedFiles(ModelPlace.of(path))


def copy_demo(to: Path) -> Path:
    """The demo model, free to be damaged."""
    shutil.copytree(DEMO, to)
    return to


def sketch_demo(to: Path) -> Path:
    """The demo model without its weights' numbers: their files are sparse, headers whole."""

    def sketch(source: str, target: str) -> None:
        if not source.endswith(".safetensors"):
            shutil.copyfile(source, target)
            return
        with open(source, "rb") as file:
            start = file.read(8)
            Path(target).write_bytes(start + file.read(struct.unpack("<Q", start)[0]))
        os.truncate(target, os.path.getsize(source))

    shutil.copytree(DEMO, to, copy_function=sketch)
    return to


def rewrite_header(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the entries of a weight file; data of the new size follows, all zeros."""
    raw = file.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    end = 0
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = end, end + math.prod(entry["shape"]) * _BYTES[entry["dtype"]]
            entry["data_offsets"] = [start, end]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(file, 8 + len(text) + end)


def edit(path: Path, **changes: Any) -> None:
    """Change top-level keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
