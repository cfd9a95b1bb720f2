"""Take the weights of nsfwjs' MobileNetV2 out of its npm package.

    npm pack nsfwjs@4.3.0
    python tools/nsfwjs_weights.py nsfwjs-4.3.0.tgz domains/chain/backends/classifiers

writes `nsfwjs.safetensors`, the same bytes every time, and `nsfwjs.LICENSE`. Nothing is
computed: tensors keep their names, layouts (TensorFlow's) and 8-bit numbers; what a number
stands for, `number * scale + min`, is in the file's metadata.
"""

from __future__ import annotations

import base64
import json
import math
import re
import sys
import tarfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

_FOLDER = "package/dist/models/mobilenet_v2/"
_WEIGHT = re.compile(
    r'\{name:"(?P<name>[^"]+)",shape:\[(?P<shape>[\d,]+)\],dtype:"float32",'
    r'quantization:\{min:(?P<min>[-\d.e]+),scale:(?P<scale>[-\d.e]+),dtype:"uint8"\}\}'
)
_BASE64 = re.compile(r'"([A-Za-z0-9+/]{1000,}={0,2})"')


def main(package: str, folder: str) -> None:
    """Write the weights and their licence."""
    with tarfile.open(package) as archive:

        def read(name: str) -> bytes:
            found = archive.extractfile(name)
            assert found is not None
            return found.read()

        described = read(f"{_FOLDER}model.min.js").decode()
        numbers = read(f"{_FOLDER}group1-shard1of1.min.js").decode()
        licence = read("package/LICENSE")
    (found,) = _BASE64.findall(numbers)
    data = base64.b64decode(found)
    weights = list(_WEIGHT.finditer(described))
    assert len(weights) == described.count("quantization:{"), "a weight of another form"
    tensors: dict[str, np.ndarray] = {}
    meaning: dict[str, tuple[float, float]] = {}
    begin = 0
    for each in weights:
        shape = [int(edge) for edge in each["shape"].split(",")]
        end = begin + math.prod(shape)
        tensors[each["name"]] = np.frombuffer(data[begin:end], np.uint8).reshape(shape)
        meaning[each["name"]] = float(each["min"]), float(each["scale"])
        begin = end
    assert begin == len(data), "numbers that belong to no weight"
    # One entry of metadata alone: several would come in any order.
    metadata = {"min_and_scale": json.dumps(meaning, sort_keys=True)}
    save_file(tensors, Path(folder, "nsfwjs.safetensors"), metadata)
    Path(folder, "nsfwjs.LICENSE").write_bytes(licence)


if __name__ == "__main__":
    main(*sys.argv[1:])
