"""Copies that are measured on a device beside what they were made of, over a real channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from safetensors.torch import load_file, save_file

from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    model_pb2,
    model_task_pb2,
    processing_pb2,
    session_pb2,
)
from tests.domains.model.disk import write_safetensors
from tests.e2e.errors import Refusal
from tests.e2e.test_load_model import status
from tests.e2e.test_model_tasks import found, refused
from tests.fakes.tiny_models import save_sd1
from tests.running import Client

CPU = device_info_pb2.DevicePlacement(device_id="cpu")


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """A checkpoint, one whose VAE makes no numbers, a pickle and a LoRA."""
    folder = models
    save_sd1(folder / "small")
    loud = next((save_sd1(folder / "loud") / "vae").glob("*.safetensors"))
    tensors = load_file(loud)
    name = "decoder.conv_in.weight"
    save_file(tensors | {name: torch.full_like(tensors[name].float(), 3e38)}, loud)
    torch.save({"a.weight": torch.zeros(2, 2)}, folder / "old.ckpt")
    write_safetensors(folder / "ink.safetensors", {"lora_te2_x.lora_up.weight": (8, 8)})
    return folder


def optimizing(client: Client, model_id: str, target: str, **more: Any) -> Any:
    request = model_task_pb2.OptimizeModelRequest(
        model_id=model_id, target_model_id=target, **{"placement": CPU, **more}
    )
    return client.model.OptimizeModel(request, metadata=client.metadata)


async def exists(client: Client, model_id: str) -> bool:
    request = model_pb2.ListModelsRequest(page_size=100)
    listed = await client.model.ListModels(request, metadata=client.metadata)
    return model_id in {model.model_id for model in listed.models}


@pytest.mark.demonstration
async def test_both_are_measured_and_their_pictures_compared(client: Client) -> None:
    call = optimizing(client, "small", "half", data_type=common_pb2.TENSOR_DATA_TYPE_BFLOAT16)
    events = [answer.event async for answer in call]
    report = events[-1].completed.model_optimization

    assert report.model.model_id == "half"
    assert report.size_after_bytes < report.size_before_bytes
    assert (report.before.model_id, report.after.model_id) == ("small", "half")
    for one in (report.before, report.after):
        assert one.device_id == "cpu:0"
        assert one.step.count > 0
        assert min(one.load.p50_ms, one.step.p50_ms, one.decode.p50_ms) > 0
        assert one.peak_memory.value_bytes > 0
    # Fewer bits are another picture, and yet the same one.
    assert 10 < report.similarity_db < 100
    phases = [one.phase_started.phase for one in events if one.HasField("phase_started")]
    assert phases.index(session_pb2.PHASE_MEASURING) < phases.index(session_pb2.PHASE_READING)
    # Nothing of it stays on the device.
    assert not (await status(client, "small")).loaded
    assert not (await status(client, "half")).loaded


@pytest.mark.parametrize(
    ("model_id", "more", "code", "reason"),
    [
        ("old", {}, grpc.StatusCode.FAILED_PRECONDITION, "MODEL_UNSAFE_PICKLE"),
        ("ink", {}, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        ("loud", {}, grpc.StatusCode.FAILED_PRECONDITION, "NON_FINITE_OUTPUT"),
        (
            "small",
            {"placement": device_info_pb2.DevicePlacement(device_id="cuda:99")},
            grpc.StatusCode.NOT_FOUND,
            "DEVICE_NOT_FOUND",
        ),
        (
            "small",
            {
                "placement": device_info_pb2.DevicePlacement(
                    any=device_info_pb2.DeviceChoice(device_ids=["x"] * 65)
                )
            },
            grpc.StatusCode.INVALID_ARGUMENT,
            "TOO_MANY_ELEMENTS",
        ),
    ],
)
async def test_what_cannot_be_measured_is_not_copied(
    client: Client, root: Path, model_id: str, more: Any, code: grpc.StatusCode, reason: str
) -> None:
    told: Refusal = await refused(optimizing(client, model_id, "never", **more))
    assert (told.code, told.reason) == (code, reason)
    assert not await exists(client, "never")
    assert found(root, "never*") == []


async def test_a_copy_stays_whose_measurement_is_cancelled(client: Client) -> None:
    call = optimizing(client, "small", "kept")
    phases: list[int] = []
    async for answer in call:
        if answer.event.HasField("phase_started"):
            phases.append(answer.event.phase_started.phase)
        if session_pb2.PHASE_VERIFYING in phases and (
            phases[-1] == session_pb2.PHASE_LOADING_MODEL
        ):
            break
    call.cancel()
    assert await exists(client, "kept")
    assert (await refused(optimizing(client, "small", "kept"))).reason == "NAME_TAKEN"


async def test_one_that_is_cancelled_before_it_is_copied_leaves_nothing(
    client: Client, root: Path
) -> None:
    call = optimizing(client, "small", "gone")
    session_id = ""
    async for answer in call:
        session_id = session_id or answer.event.session_id
        if answer.event.HasField("step_finished"):
            break
    call.cancel()
    request = processing_pb2.GetSessionRequest(session_id=session_id)
    state = session_pb2.SESSION_STATE_UNSPECIFIED
    while state != session_pb2.SESSION_STATE_CANCELLED:
        told = await client.processing.GetSession(request, metadata=client.metadata)
        state = told.session.state
        assert state != session_pb2.SESSION_STATE_COMPLETED
    assert not await exists(client, "gone")
    assert found(root, "gone*") == []
