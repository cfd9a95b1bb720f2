"""Checks and conversions of models by a real server, with inspectors of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from deviceops.v1 import (
    common_pb2,
    errors_pb2,
    event_pb2,
    model_info_pb2,
    model_pb2,
    model_task_pb2,
    processing_pb2,
    session_pb2,
)
from tests.domains.model.disk import copy_demo, write_safetensors
from tests.e2e.errors import read
from tests.running import Client, RunningServer

LAYER = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
LORA = {
    f"{LAYER}.lora_down.weight": (8, 2048),
    f"{LAYER}.lora_up.weight": (640, 8),
}
INSPECTOR = "server.worker.child.inspector"


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """A model folder: good, damaged, and pickled ones, and one that takes long to read."""
    folder = models
    vae = copy_demo(folder / "whole") / "vae" / "config.json"
    vae.write_text(json.dumps({**json.loads(vae.read_text()), "force_upcast": True}))
    write_safetensors(folder / "ink.safetensors", LORA)
    damaged = write_safetensors(folder / "damaged.safetensors", LORA)
    with damaged.open("r+b") as file:
        file.truncate(damaged.stat().st_size - 1)
    write_safetensors(folder / "huge.safetensors", {**LORA, "filler": (1 << 30,)})
    save_file(
        {
            "conditioner.bias": torch.ones(300),
            "first_stage_model.decoder.bias": torch.full((300,), 1e6),
            "model_ema.decay": torch.ones(300),
        },
        folder / "trained.safetensors",
    )
    broken = weights()
    broken[f"{LAYER}.lora_down.weight"][3, 3] = float("nan")
    save_file(broken, folder / "broken.safetensors")
    torch.save(weights(), folder / "new.ckpt")
    torch.save(weights(), folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"a.weight": torch.nn.Linear(1, 1)}, folder / "unsafe.bin")
    return folder


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    down = torch.randn(8, 2048)
    down[0, 0] = 1e6  # no number of 16 bits but for bfloat16
    return {
        f"{LAYER}.lora_down.weight": down,
        f"{LAYER}.lora_up.weight": torch.randn(640, 8).half(),
    }


def checking(client: Client, model_id: str, depth: str = "HEADER", **more: Any) -> Any:
    request = model_task_pb2.ValidateModelRequest(
        model_id=model_id,
        depth=model_task_pb2.ValidationDepth.Value(f"VALIDATION_DEPTH_{depth}"),
        **more,
    )
    return client.model.ValidateModel(request, metadata=client.metadata)


async def end(call: Any) -> event_pb2.SessionEvent:
    """The last event of a session."""
    events = [answer.event async for answer in call]
    assert events[0].HasField("accepted")
    return events[-1]


async def check(client: Client, *wanted: str, **more: Any) -> Any:
    return (await end(checking(client, *wanted, **more))).completed.model_validation


def converting(client: Client, model_id: str, target: str, **more: Any) -> Any:
    request = model_task_pb2.ConvertModelRequest(
        model_id=model_id, target_model_id=target, **more
    )
    return client.model.ConvertModel(request, metadata=client.metadata)


async def refused(call: Any) -> Any:
    """Why a call ends, whatever it said before."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        async for _ in call:
            pass
    return read(error.value)


def found(root: Path, pattern: str) -> list[Path]:
    return list(root.glob(pattern))


def reason(value: int) -> str:
    return errors_pb2.ErrorReason.Name(value).removeprefix("ERROR_REASON_")


async def started(call: Any) -> str:
    """Wait until bytes move; the session's id."""
    session_id = ""
    async for answer in call:
        session_id = session_id or answer.event.session_id
        if answer.event.HasField("transfer_progress"):
            return session_id
    raise AssertionError("it ended first")


async def test_what_is_whole_has_no_findings(client: Client, root: Path) -> None:
    folder = await check(client, "whole")
    file = await check(client, "ink", "FULL")

    assert (folder.valid, list(folder.findings), folder.sha256) == (True, [], "")
    assert (file.valid, list(file.findings)) == (True, [])
    digest = hashlib.sha256((root / "ink.safetensors").read_bytes()).hexdigest()
    assert file.sha256 == digest


async def test_the_hash_of_a_check_is_the_catalogues(client: Client) -> None:
    checked = await check(client, "whole", "FULL")
    request = model_pb2.GetModelRequest(model_id="whole")
    while True:
        answer = await client.model.GetModel(request, metadata=client.metadata)
        if answer.model.sha256:
            break
        await asyncio.sleep(0.1)

    assert checked.valid
    assert checked.sha256 == answer.model.sha256


async def test_what_is_wrong_is_found_by_file(client: Client) -> None:
    report = await check(client, "damaged")
    pickle = await check(client, "unsafe")

    assert not report.valid
    assert [reason(one.reason) for one in report.findings] == ["MODEL_TRUNCATED"]
    assert report.findings[0].component == "damaged.safetensors"
    assert report.findings[0].description.endswith(".")
    assert "MODEL_UNSAFE_PICKLE" in {reason(one.reason) for one in pickle.findings}
    assert not pickle.valid


async def test_a_checkpoint_is_run_when_it_is_checked_deeply(client: Client) -> None:
    call = checking(client, "whole", "DEEP", device_id="cpu")
    events = [answer.event async for answer in call]
    report = events[-1].completed.model_validation

    assert report.valid, report.findings
    assert report.estimate.device_id == "cpu:0"
    assert report.estimate.fits
    assert report.estimate.weights.value_bytes > 0
    phases = [one.phase_started.phase for one in events if one.HasField("phase_started")]
    assert session_pb2.PHASE_LOADING_MODEL in phases


async def test_numbers_that_are_none_are_found(client: Client) -> None:
    deep = await check(client, "broken", "DEEP")
    full = await check(client, "broken", "FULL", device_id="cpu")

    assert [(reason(one.reason), one.tensor) for one in deep.findings] == [
        ("MODEL_NON_FINITE", f"{LAYER}.lora_down.weight")
    ]
    assert full.valid
    assert full.estimate.device_id == "cpu:0"
    missing = await refused(checking(client, "ink", device_id="cuda:99"))
    assert missing.reason == "DEVICE_NOT_FOUND"


async def test_a_check_of_nothing_is_refused(client: Client) -> None:
    assert (await refused(checking(client, "nothing"))).reason == "MODEL_NOT_FOUND"


async def test_a_check_is_cancelled_in_the_middle(
    client: Client, running: RunningServer
) -> None:
    call = checking(client, "huge", "FULL")
    session_id = await started(call)
    await client.processing.CancelSession(
        processing_pb2.CancelSessionRequest(session_id=session_id), metadata=client.metadata
    )
    assert (await refused(call)).code is grpc.StatusCode.CANCELLED
    assert not inspectors(running)


async def test_an_inspector_that_dies_ends_its_session_alone(
    client: Client, running: RunningServer
) -> None:
    call = checking(client, "huge", "FULL")
    await started(call)
    (inspector,) = inspectors(running)
    inspector.kill()
    assert (await refused(call)).reason == "WORKER_LOST"
    assert (await check(client, "ink")).valid


def inspectors(running: RunningServer) -> list[psutil.Process]:
    children = psutil.Process(running.process.pid).children()
    return [child for child in children if INSPECTOR in child.cmdline()]


@pytest.mark.parametrize("source", ["new", "old"])
async def test_a_pickle_becomes_safetensors_with_the_same_tensors(
    client: Client, root: Path, source: str
) -> None:
    original = found(root, f"{source}.*")[0]
    before = original.read_bytes()

    made = (await end(converting(client, source, f"{source}-safe"))).completed.model

    assert made.model_id == f"{source}-safe"
    assert made.format == model_info_pb2.MODEL_FORMAT_SAFETENSORS
    assert made.type == model_info_pb2.MODEL_TYPE_LORA
    assert original.read_bytes() == before
    written = load_file(root / f"{source}-safe.safetensors")
    assert written.keys() == weights().keys()
    for name, tensor in weights().items():
        assert written[name].dtype == tensor.dtype
        assert torch.equal(written[name], tensor)
    assert (await check(client, f"{source}-safe", "FULL")).valid
    taken = await refused(converting(client, source, f"{source}-safe"))
    assert taken.reason == "NAME_TAKEN"


async def test_numbers_get_another_type_unless_they_would_be_infinite(
    client: Client, root: Path
) -> None:
    half = common_pb2.TENSOR_DATA_TYPE_FLOAT16
    brain = common_pb2.TENSOR_DATA_TYPE_BFLOAT16
    failed = await refused(converting(client, "new", "half", data_type=half))
    await end(converting(client, "new", "brain", data_type=brain))

    assert failed.reason == "MODEL_NON_FINITE"
    written = load_file(root / "brain.safetensors")
    for name, tensor in weights().items():
        assert torch.equal(written[name], tensor.bfloat16())
    assert not found(root, "half*")
    assert not found(root, ".new-*")


async def test_a_pickle_that_asks_for_more_is_not_converted(client: Client, root: Path) -> None:
    failed = await refused(converting(client, "unsafe", "safe"))

    assert failed.reason == "MODEL_UNSAFE_PICKLE"
    assert failed.metadata == {"global": "torch.nn.modules.linear.Linear"}
    assert not found(root, "safe*")


async def test_a_cancelled_conversion_leaves_nothing(client: Client, root: Path) -> None:
    brain = common_pb2.TENSOR_DATA_TYPE_BFLOAT16
    call = converting(client, "huge", "copy", data_type=brain)
    session_id = await started(call)
    assert found(root, ".new-*")
    await client.processing.CancelSession(
        processing_pb2.CancelSessionRequest(session_id=session_id), metadata=client.metadata
    )
    assert (await refused(call)).code is grpc.StatusCode.CANCELLED
    assert not found(root, ".new-*")
    assert not found(root, "copy*")


async def test_a_smaller_copy_has_what_drawing_needs(client: Client, root: Path) -> None:
    request = model_task_pb2.OptimizeModelRequest(
        model_id="trained",
        target_model_id="small",
        prune=True,
        vae_data_type=common_pb2.TENSOR_DATA_TYPE_FLOAT32,
    )
    call = client.model.OptimizeModel(request, metadata=client.metadata)
    report = (await end(call)).completed.model_optimization

    written = load_file(root / "small.safetensors")
    assert {name: tensor.dtype for name, tensor in written.items()} == {
        "conditioner.bias": torch.float16,
        "first_stage_model.decoder.bias": torch.float32,
    }
    assert report.model.model_id == "small"
    assert report.tensors_pruned == 1
    assert report.size_before_bytes == (root / "trained.safetensors").stat().st_size
    assert report.size_after_bytes == (root / "small.safetensors").stat().st_size


async def test_a_smaller_copy_of_a_folder_is_a_folder(client: Client, root: Path) -> None:
    request = model_task_pb2.OptimizeModelRequest(
        model_id="whole",
        target_model_id="whole-small",
        data_type=common_pb2.TENSOR_DATA_TYPE_BFLOAT16,
        prune=True,
    )
    call = client.model.OptimizeModel(request, metadata=client.metadata)
    report = (await end(call)).completed.model_optimization

    assert report.model.usable, report.model
    assert report.model.format == model_info_pb2.MODEL_FORMAT_DIFFUSERS_FOLDER
    parts = {path.parent.name: path for path in found(root, "whole-small/*/*.safetensors")}
    assert {part: data_types(path) for part, path in parts.items()} == {
        "unet": {torch.bfloat16},
        "text_encoder": {torch.bfloat16},
        "text_encoder_2": {torch.bfloat16},
        "vae": {torch.float32},
    }
    assert names_below(root / "whole-small") == names_below(root / "whole")


def data_types(path: Path) -> set[torch.dtype]:
    return {tensor.dtype for tensor in load_file(path).values()}


def names_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


async def test_a_copy_of_a_folder_keeps_every_number(client: Client, root: Path) -> None:
    folder = model_info_pb2.MODEL_FORMAT_DIFFUSERS_FOLDER
    made = (await end(converting(client, "whole", "whole-copy", format=folder))).completed.model

    assert made.usable
    assert names_below(root / "whole-copy") == names_below(root / "whole")
    (before,) = found(root, "whole/unet/*.safetensors")
    (after,) = found(root, "whole-copy/unet/*.safetensors")
    assert data_types(before) == data_types(after)
    assert load_file(before).keys() == load_file(after).keys()


@pytest.mark.parametrize("name", ["", "../up", "con", "a/b"])
async def test_the_copys_name_must_be_one(client: Client, name: str) -> None:
    failure = await refused(converting(client, "new", name))

    assert failure.fields == ["target_model_id"]


async def test_a_folder_becomes_a_file_and_that_a_folder(client: Client, root: Path) -> None:
    folder = model_info_pb2.MODEL_FORMAT_DIFFUSERS_FOLDER
    file = (await end(converting(client, "whole", "unet"))).completed.model
    # A part of it has the name that it is to have itself.
    call = converting(client, "unet", "vae", format=folder)
    back = (await end(call)).completed.model

    assert (file.model_id, file.format) == ("unet", model_info_pb2.MODEL_FORMAT_SAFETENSORS)
    assert (back.model_id, back.format) == ("vae", folder)
    assert file.usable, file
    assert back.usable, back
    assert (root / "unet.safetensors").is_file()
    assert (root / "vae" / "vae" / "config.json").is_file()
    assert not found(root, ".new-*")
    again = await refused(converting(client, "whole", "unet"))
    assert again.reason == "NAME_TAKEN"
    for one in ("whole", "unet", "vae"):
        assert (await check(client, one, "FULL")).valid


@pytest.mark.parametrize("name", ["PICKLE", "ONNX", "GGUF"])
async def test_other_formats_are_never_written(client: Client, name: str) -> None:
    wanted = model_info_pb2.ModelFormat.Value(f"MODEL_FORMAT_{name}")
    failed = await refused(converting(client, "whole", "copy", format=wanted))

    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.fields == ["format"]


async def test_only_checkpoints_have_two_layouts(client: Client, root: Path) -> None:
    folder = model_info_pb2.MODEL_FORMAT_DIFFUSERS_FOLDER
    lora = await refused(converting(client, "ink", "copy", format=folder))
    pickle = await refused(converting(client, "new", "copy", format=folder))
    damaged = await refused(converting(client, "damaged", "copy", format=folder))

    assert lora.reason == pickle.reason == "MODEL_FORMAT_UNSUPPORTED"
    assert "is a lora" in lora.message
    assert "is a pickle" in pickle.message
    assert damaged.reason == "MODEL_TRUNCATED"
    assert not found(root, "copy*")
