"""What a look through ten thousand models costs, against reading each header naively.

python -m bench.catalogue [MODELS]
"""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from domains.model.backends.disk_scanner import DiskScanner
from tests.domains.model.disk import write_safetensors

MODELS = 10_000
LAYERS = 48
LAYOUTS = 24


def _write(root: Path, models: int) -> None:
    """LoRAs over sparse data, a hundred in a folder: of 48 layers and 24 ranks, as few trainers
    write them, each with metadata of its own."""
    tables = []
    for rank in range(1, LAYOUTS + 1):
        shapes: dict[str, tuple[int, int]] = {}
        for layer in range(LAYERS):
            name = f"lora_unet_down_blocks_1_attentions_0_transformer_blocks_{layer}_attn2_to_k"
            shapes[f"{name}.lora_down.weight"] = (rank, 640)
            shapes[f"{name}.lora_up.weight"] = (640, rank)
        path = write_safetensors(root / "layout", shapes)
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            tensors = json.loads(file.read(length))
            tables.append((tensors, path.stat().st_size - 8 - length))
        path.unlink()
    for number in range(models):
        tensors, size = tables[number % LAYOUTS]
        said = {
            "ss_output_name": f"style {number}",
            "ss_network_dim": "8",
            "ss_seed": str(number),
        }
        header = json.dumps({"__metadata__": said} | tensors).encode()
        target = root / str(number // 100) / f"{number}.safetensors"
        target.parent.mkdir(exist_ok=True)
        with target.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            os.ftruncate(file.fileno(), 8 + len(header) + size)


def _read_naively(root: Path) -> int:
    """Each header read and parsed, as one would in a few lines."""
    tensors = 0
    for path in root.rglob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            tensors += len(json.loads(file.read(length)))
    return tensors


class _Time(NamedTuple):
    """Seconds that went by, and seconds that were computed: of these a machine that does
    other things too takes hardly more."""

    passed: float
    computed: float

    def against(self, naive: _Time) -> str:
        return (
            f"{self.passed:.2f} s, {self.passed / naive.passed:.2f} of that; "
            f"{self.computed / naive.computed:.2f} of its processor time"
        )


def _time(work: Callable[[], object]) -> _Time:
    began, computed = time.perf_counter(), time.process_time()
    work()
    return _Time(time.perf_counter() - began, time.process_time() - computed)


def main() -> None:
    """Print seconds and ratios; all files are in the page cache, and each way reads all."""
    models = int(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write(root, models)
        _read_naively(root)
        before = _time(lambda: _read_naively(root))
        scanner = DiskScanner([root], patience=3_600)
        first = _time(scanner.scan)
        after = _time(lambda: _read_naively(root))
        naive = _Time(*map(min, before, after))
        second = _time(scanner.scan)
        count = len(scanner.scan().models)
    if count != models:
        raise SystemExit(f"{count} of {models} models were found: the times cannot be compared")
    print(f"{count} models; reading each header naively: {naive.passed:.2f} s")
    print(f"first look:  {first.against(naive)}")
    print(f"second look: {second.against(naive)}")


if __name__ == "__main__":
    main()
