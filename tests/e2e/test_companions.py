"""Models that a generation uses beside its checkpoint, through the public contract."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
from safetensors.torch import load_file, save_file

from deviceops.v1 import (
    common_pb2,
    generation_pb2,
    inference_pb2,
    model_info_pb2,
    model_pb2,
    session_pb2,
)
from tests.domains.model.disk import DEMO, edit
from tests.e2e.errors import refusal_of
from tests.e2e.test_load_model import load, loaded
from tests.running import Client, small_request


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """Beside the demo's models, a LoRA for SD 1.x, one for a layer that is not there, and the
    demo's checkpoint without its VAE."""
    tensors = load_file(DEMO.parent / "line-art.safetensors")
    down = tensors[next(name for name in tensors if name.endswith("lora_down.weight"))]
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    wide = down.new_zeros(4, 768), down.new_zeros(320, 4)
    save_file(
        {f"{layer}.lora_down.weight": wide[0], f"{layer}.lora_up.weight": wide[1]},
        models / "older.safetensors",
        {
            "ss_base_model_version": "sd_v1",
            "modelspec.architecture": "stable-diffusion-v1/lora",
        },
    )
    layer = "lora_unet_down_blocks_0_resnets_0_conv1"
    odd = down.new_zeros(2, 7, 3, 3), down.new_zeros(7, 2, 1, 1)
    save_file(
        {f"{layer}.lora_down.weight": odd[0], f"{layer}.lora_up.weight": odd[1]},
        models / "odd.safetensors",
        {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"},
    )
    folder = shutil.copytree(DEMO, models / "bare", ignore=shutil.ignore_patterns("vae"))
    edit(folder / "model_index.json", vae=[None, None])
    return models


def using(*loras: tuple[str, float]) -> inference_pb2.GenerateRequest:
    request = small_request()
    for model_id, weight in loras:
        request.settings.loras.add(model_id=model_id, weight=weight)
    return request


async def test_a_result_tells_its_loras_and_leaves_none_behind(client: Client) -> None:
    _, plain = await client.draw(small_request())
    events, lined = await client.draw(using(("line-art", 0.8), ("pixel-art", -0.2)))
    _, again = await client.draw(small_request())

    facts = events[-1].completed.generation
    told = [(lora.model_id, lora.weight) for lora in facts.effective_settings.loras]
    assert told == [("line-art", 0.8), ("pixel-art", -0.2)]
    assert facts.effective_settings.loras[0].text_encoder_weight == 0.8
    types = [(model.model_id, model.type) for model in facts.models[1:]]
    assert types == [(name, model_info_pb2.MODEL_TYPE_LORA) for name, _ in told]
    assert plain != lined
    assert plain == again


async def test_another_vae_is_told_and_leaves_nothing_behind(client: Client) -> None:
    _, plain = await client.draw(small_request())
    request = small_request()
    request.settings.vae_model_id = "emoji-vae"
    events, other = await client.draw(request)
    _, again = await client.draw(small_request())

    facts = events[-1].completed.generation
    assert facts.effective_settings.vae_model_id == "emoji-vae"
    told = [(model.model_id, model.type) for model in facts.models[1:]]
    assert told == [("emoji-vae", model_info_pb2.MODEL_TYPE_VAE)]
    assert plain != other
    assert plain == again


@pytest.mark.demonstration
async def test_a_checkpoint_without_a_vae_draws_with_the_one_that_is_named(
    client: Client,
) -> None:
    """Everybody tells the same of it: its listing, what can be asked for, a load, a validation
    and the call."""
    listed = await client.model.GetModel(
        model_pb2.GetModelRequest(model_id="bare"), metadata=client.metadata
    )
    assert any("vae_model_id" in remark for remark in listed.model.remarks)
    asked = await client.inference.GetCapabilities(
        inference_pb2.GetCapabilitiesRequest(model_id="bare"), metadata=client.metadata
    )
    needed = {limit.field for limit in asked.limits if limit.required}
    assert "GenerationSettings.vae_model_id" in needed
    _, report = await loaded(load(client, model_id="bare"))
    assert common_pb2.MODEL_PART_VAE not in {each.part for each in report.data_types}

    request = small_request(model_id="bare")
    verdict = await client.inference.ValidateGeneration(
        inference_pb2.ValidateGenerationRequest(request=request), metadata=client.metadata
    )
    assert [each.field for each in verdict.violations] == ["settings.vae_model_id"]
    refused = await refusal_of(client.draw(request))
    assert refused.reason == "REQUIRED_FIELD_MISSING"
    assert refused.fields == ["settings.vae_model_id"]

    whole = small_request(vae_model_id="emoji-vae")
    request.settings.vae_model_id = "emoji-vae"
    for each in (whole, request):
        each.settings.output.omit_parameters = True  # they have the model's name
    _, lent = await client.draw(request)
    _, own = await client.draw(whole)
    assert lent == own


async def test_a_refiner_is_told_and_leaves_nothing_behind(client: Client) -> None:
    _, plain = await client.draw(small_request(steps=4))
    request = small_request(steps=4)
    request.settings.sdxl.refiner.model_id = "emoji-refiner"
    events, refined = await client.draw(request)
    _, again = await client.draw(small_request(steps=4))

    phases = list(events[0].accepted.expected_phases)
    after = phases.index(session_pb2.PHASE_DENOISING) + 1
    assert phases[after] == session_pb2.PHASE_REFINING
    steps = [event.step_finished for event in events if event.HasField("step_finished")]
    assert [(step.step, step.steps) for step in steps] == [(k, 4) for k in range(1, 5)]
    facts = events[-1].completed.generation
    told = [(model.model_id, model.type) for model in facts.models[1:]]
    assert told == [("emoji-refiner", model_info_pb2.MODEL_TYPE_REFINER)]
    assert all(len(model.sha256) in (0, 64) for model in facts.models)
    refiner = facts.effective_settings.sdxl.refiner
    assert (refiner.switch_at, refiner.steps, refiner.guidance.scale) == (0.8, 4, 7.5)
    assert plain != refined
    assert plain == again


@pytest.mark.parametrize(
    ("refiner", "reason", "field"),
    [
        ({"model_id": "line-art"}, "MODEL_NOT_FOUND", "model_id"),
        ({"model_id": "emoji-refiner", "switch_at": 1.0}, "FIELD_OUT_OF_RANGE", "switch_at"),
        ({"model_id": "emoji-refiner", "switch_at": 0.01}, "FIELD_OUT_OF_RANGE", "switch_at"),
        ({"model_id": "emoji-xl"}, "FIELDS_CONFLICT", "model_id"),
        ({}, "REQUIRED_FIELD_MISSING", "model_id"),
    ],
)
async def test_what_cannot_refine_is_refused_by_its_field(
    client: Client, refiner: dict[str, Any], reason: str, field: str
) -> None:
    request = small_request()
    request.settings.sdxl.refiner.CopyFrom(generation_pb2.Refiner(**refiner))
    refusal = await refusal_of(client.draw(request))

    assert refusal.reason == reason
    named = [*refusal.fields, refusal.metadata.get("field", "")]
    assert any(name.endswith(f"sdxl.refiner.{field}") for name in named), named


@pytest.mark.parametrize("model_id", ["nobody", "line-art", "emoji-xl"])
async def test_what_is_no_vae_is_refused_by_its_field(client: Client, model_id: str) -> None:
    request = small_request()
    request.settings.vae_model_id = model_id
    refusal = await refusal_of(client.draw(request))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert refusal.metadata["field"] == "settings.vae_model_id"


@pytest.mark.parametrize(
    ("loras", "code", "reason", "fields"),
    [
        ([("older", 1)], "INVALID_ARGUMENT", "FIELDS_CONFLICT", ["settings.loras[0].model_id"]),
        ([("line-art", 1), ("odd", 1)], "FAILED_PRECONDITION", "MODEL_INCOMPATIBLE", []),
        ([("nobody", 1)], "NOT_FOUND", "MODEL_NOT_FOUND", []),
        ([("emoji-xl", 1)], "NOT_FOUND", "MODEL_NOT_FOUND", []),
        (
            [("line-art", 1), ("line-art", 0.5)],
            "INVALID_ARGUMENT",
            "FIELDS_CONFLICT",
            ["settings.loras[1].model_id"],
        ),
        (
            [("line-art", 2.5)],
            "INVALID_ARGUMENT",
            "FIELD_OUT_OF_RANGE",
            ["settings.loras[0].weight"],
        ),
    ],
)
async def test_what_cannot_be_applied_is_refused(
    client: Client, loras: list[tuple[str, float]], code: str, reason: str, fields: list[str]
) -> None:
    refusal = await refusal_of(client.draw(using(*loras)))

    assert (refusal.code, refusal.reason) == (getattr(grpc.StatusCode, code), reason)
    assert refusal.fields == fields


async def test_the_catalogue_has_no_reservation_about_loras(client: Client) -> None:
    request = model_pb2.GetModelRequest(model_id="line-art")
    answer = await client.model.GetModel(request, metadata=client.metadata)
    assert list(answer.model.remarks) == []
