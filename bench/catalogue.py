"""What a look through ten thousand models costs, against reading each header naively.

python -m bench.catalogue
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from domains.model.backends.disk_scanner import DiskScanner
from tests.domains.model.disk import write_safetensors

MODELS = 10_000
LAYERS = 48


def _write(root: Path) -> None:
    """LoRAs of 48 layers over sparse data, a hundred in a folder."""
    shapes: dict[str, tuple[int, int]] = {}
    for layer in range(LAYERS):
        name = f"lora_unet_down_blocks_1_attentions_0_transformer_blocks_{layer}_attn2_to_k"
        shapes[f"{name}.lora_down.weight"] = (8, 640)
        shapes[f"{name}.lora_up.weight"] = (640, 8)
    first = write_safetensors(root / "0" / "0.safetensors", shapes)
    for number in range(1, MODELS):
        target = root / str(number // 100) / f"{number}.safetensors"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(first, target)


def _read_naively(root: Path) -> int:
    """Each header read and parsed, as one would in a few lines."""
    tensors = 0
    for path in root.rglob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            tensors += len(json.loads(file.read(length)))
    return tensors


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Print seconds and ratios; files are in the page cache for all."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write(root)
        _read_naively(root)
        naive = _seconds(lambda: _read_naively(root))
        scanner = DiskScanner([root], patience=3_600)
        first = _seconds(scanner.scan)
        second = _seconds(scanner.scan)
        count = len(scanner.scan().models)
    print(f"{count} models; reading each header naively: {naive:.2f} s")
    print(f"first look:  {first:.2f} s, {first / naive:.2f} of that")
    print(f"second look: {second:.2f} s, {second / naive:.2f} of that")


if __name__ == "__main__":
    main()
