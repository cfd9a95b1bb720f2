"""What torch itself writes becomes safetensors, tensor by tensor as torch would read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from domains.errors import DataLoss, FailedPrecondition, Reason, ResourceExhausted
from domains.model.backends.inspector import conversion, room, safetensors_writer
from domains.model.backends.inspector.conversion import convert
from domains.model.backends.inspector.inspection import inspect
from domains.model.jobs import ConversionReport, ConvertJob, InspectJob
from domains.model.views import ValidationDepth
from domains.session.types import TransferProgress
from domains.values import ModelPlace, TensorDataType
from tests.domains.model.backends.inspector.context import Told
from tests.domains.model.backends.inspector.pickles import FOUR, GOOD, archive

BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def tensors() -> dict[str, torch.Tensor]:
    """Tensors of every kind that lies in checkpoints."""
    torch.manual_seed(0)
    base = torch.randn(64, 32)
    return {
        "plain.weight": base,
        "tied.weight": base,
        "turned.weight": base.t(),
        "part.weight": base[10:20, ::2],
        "last.weight": torch.randn(4, 4, 3, 3).to(memory_format=torch.channels_last),
        "expanded.weight": torch.randn(1).expand(5, 5),
        "parameter.weight": torch.nn.Parameter(torch.randn(3)),
        "half.bias": torch.randn(7).half(),
        "brain.bias": torch.randn(7).bfloat16(),
        "double": torch.randn(3).double(),
        "numbers": torch.arange(10),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
    }


def converted(path: Path, folder: Path, **changes: Any) -> ConversionReport:
    folder.mkdir(exist_ok=True)
    job = ConvertJob("x", ModelPlace.of(path), folder, "y.safetensors", **changes)
    return convert(job, Told())


def saved(path: Path, value: Any, *, zipped: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


@BOTH
def test_every_kind_of_tensor_is_as_torch_reads_it(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "x.ckpt", tensors(), zipped=zipped)

    converted(path, tmp_path / "new")

    expected = torch.load(path, weights_only=True)
    found = load_file(tmp_path / "new" / "y.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


@BOTH
def test_what_a_trainer_keeps_beside_the_weights_is_left_out_and_said(
    tmp_path: Path, zipped: bool
) -> None:
    layer = torch.nn.Linear(3, 4)
    value = {
        "state_dict": layer.state_dict(),
        "epoch": 3,
        "global_step": np.int64(5),
        "optimizer_states": [torch.optim.AdamW(layer.parameters()).state_dict()],
        "hyper_parameters": {"lr": 1e-4, "size": torch.Size([2]), "kind": torch.float16},
    }
    path = saved(tmp_path / "x.ckpt", value, zipped=zipped)

    report = converted(path, tmp_path / "new")

    assert set(report.left_out) == value.keys() - {"state_dict"}
    with safe_open(tmp_path / "new" / "y.safetensors", "pt") as file:
        assert set(file.keys()) == {"weight", "bias"}
        assert "global_step" in file.metadata()["left_out"]


def test_the_callback_that_old_checkpoints_have_as_a_key_is_no_hindrance(
    tmp_path: Path,
) -> None:
    from tests.domains.model.backends.inspector.pickles import Reference

    key = Reference(
        "pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", called=False
    )
    value = {"callbacks": {key: {"monitor": "loss"}}, "state_dict": GOOD}
    path = archive(tmp_path / "sd.ckpt", value, {"0": FOUR})

    assert converted(path, tmp_path / "new").left_out == ("callbacks",)


def test_tables_in_tables_become_names_with_dots(tmp_path: Path) -> None:
    one = torch.ones(2, 2)
    value = {"image_proj": {"proj.weight": one}, "ip_adapter": {"1": {"to_k.weight": one}}}
    path = saved(tmp_path / "ip.bin", value, zipped=True)

    converted(path, tmp_path / "new")

    found = load_file(tmp_path / "new" / "y.safetensors")
    assert found.keys() == {"image_proj.proj.weight", "ip_adapter.1.to_k.weight"}


@pytest.mark.parametrize("holder", ["dict", "ParameterDict"])
def test_a_textual_inversion_keeps_its_rows(tmp_path: Path, holder: str) -> None:
    rows: Any = {"*": torch.randn(2, 768)}
    if holder == "ParameterDict":
        kept = torch.nn.ParameterDict()
        kept.register_parameter("*", torch.nn.Parameter(rows["*"]))
        rows = kept
    value = {"string_to_token": {"*": 265}, "string_to_param": rows, "name": "cat", "step": 9}
    path = saved(tmp_path / "cat.pt", value, zipped=True)

    converted(path, tmp_path / "new")

    found = load_file(tmp_path / "new" / "y.safetensors")
    assert found.keys() == {"emb_params"}
    assert found["emb_params"].shape == (2, 768)


@pytest.mark.parametrize("wrapper", ["params_ema", "params", "model_state_dict"])
def test_an_upscaler_is_taken_out_of_its_wrapper(tmp_path: Path, wrapper: str) -> None:
    path = saved(tmp_path / "x.pth", {wrapper: {"body.0.weight": torch.ones(2)}}, zipped=True)

    converted(path, tmp_path / "new")

    assert load_file(tmp_path / "new" / "y.safetensors").keys() == {"body.0.weight"}


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        (TensorDataType.FLOAT16, torch.float16),
        (TensorDataType.BFLOAT16, torch.bfloat16),
        (TensorDataType.FLOAT32, torch.float32),
    ],
)
def test_numbers_become_what_torch_would_make_of_them(
    tmp_path: Path, wanted: TensorDataType, kind: torch.dtype
) -> None:
    path = saved(tmp_path / "x.ckpt", tensors(), zipped=True)

    converted(path, tmp_path / "new", data_type=wanted)

    found = load_file(tmp_path / "new" / "y.safetensors")
    for name, tensor in tensors().items():
        expected = tensor.to(kind) if tensor.is_floating_point() else tensor
        assert torch.equal(found[name], expected), name


def test_a_number_too_large_for_its_new_type_is_refused_by_its_tensor(tmp_path: Path) -> None:
    value = {"fine.weight": torch.ones(2), "large.weight": torch.tensor([1.0, 70_000.0])}
    path = saved(tmp_path / "x.ckpt", value, zipped=True)

    with pytest.raises(FailedPrecondition) as refused:
        converted(path, tmp_path / "new", data_type=TensorDataType.FLOAT16)

    assert refused.value.reason is Reason.MODEL_NON_FINITE
    assert refused.value.metadata["tensor"] == "large.weight"


def test_what_only_training_uses_is_pruned(tmp_path: Path) -> None:
    kept = ("model.diffusion_model.out.weight", "first_stage_model.decoder.conv_in.weight")
    gone = ("model_ema.out", "alphas_cumprod", "first_stage_model.loss.logvar", "betas")
    value = {name: torch.ones(2) for name in (*kept, *gone)}
    path = saved(tmp_path / "x.ckpt", value, zipped=True)

    report = converted(
        path,
        tmp_path / "new",
        prune=True,
        data_type=TensorDataType.FLOAT16,
        vae_data_type=TensorDataType.FLOAT32,
    )

    found = load_file(tmp_path / "new" / "y.safetensors")
    assert report.tensors_pruned == len(gone)
    assert {n: t.dtype for n, t in found.items()} == dict(
        zip(kept, (torch.float16, torch.float32), strict=True)
    )


def test_a_result_that_is_not_its_source_is_data_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "x.ckpt", tensors(), zipped=True)
    writing = safetensors_writer.write

    def on_a_failing_disk(source: Any, target: Path, *rest: Any) -> None:
        writing(source, target, *rest)
        content = bytearray(target.read_bytes())
        content[-1] ^= 1
        target.write_bytes(content)

    monkeypatch.setattr(conversion, "write", on_a_failing_disk)
    with pytest.raises(DataLoss) as lost:
        converted(path, tmp_path / "new")

    assert lost.value.reason is Reason.MODEL_CHECKSUM_MISMATCH


def test_a_full_disk_is_known_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "x.ckpt", tensors(), zipped=True)
    monkeypatch.setattr(room, "_LEAST_FREE_BYTES", 1 << 60)

    with pytest.raises(ResourceExhausted) as refused:
        converted(path, tmp_path / "new")

    assert refused.value.reason is Reason.DISK_FULL
    assert int(refused.value.metadata["needed_bytes"]) > 0
    assert list((tmp_path / "new").iterdir()) == []


def test_a_deep_look_names_each_tensor_with_a_number_that_is_none(tmp_path: Path) -> None:
    value = tensors()
    value["plain.weight"][3, 3] = float("nan")
    value["half.bias"][1] = float("inf")
    path = saved(tmp_path / "x.ckpt", value, zipped=True)
    told = Told()

    shallow = inspect(InspectJob("x", ModelPlace.of(path), ValidationDepth.FULL), told)
    deep = inspect(InspectJob("x", ModelPlace.of(path), ValidationDepth.DEEP), told)

    assert shallow.findings == ()
    assert {finding.tensor for finding in deep.findings} == {
        *("plain.weight", "tied.weight", "turned.weight", "half.bias")
    }
    assert {finding.reason for finding in deep.findings} == {Reason.MODEL_NON_FINITE}
    ends = [event for event in told.events if isinstance(event, TransferProgress)]
    assert ends[-1].done_bytes == ends[-1].total_bytes
