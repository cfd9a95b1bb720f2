"""Tensors come out of a file as they were put in."""

from __future__ import annotations

import safetensors.torch
import torch

from domains.model.backends.model_plan import WeightFile
from domains.model.backends.safetensors_header import read_header
from domains.model.backends.weights import read_tensors
from tests.domains.model.disk import files_at


def test_every_tensor_comes_out_empty_ones_too(tmp_path):
    stored = {
        "none": torch.empty(0, 3),
        "one": torch.tensor(1.5, dtype=torch.float16),
        "some": torch.arange(6).reshape(2, 3),
    }
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(stored, path)
    counted = []
    files = files_at(path)
    file = WeightFile(files, "", read_header(files))
    read = read_tensors(file, file.header.tensors, on_bytes=counted.append)
    found = {entry.name: tensor for entry, tensor in read}
    assert found.keys() == stored.keys()
    for name, tensor in stored.items():
        assert found[name].dtype is tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name], tensor)
    assert sum(counted) == 2 + 6 * 8
