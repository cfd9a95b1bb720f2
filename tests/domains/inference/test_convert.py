"""Generation requests on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from msgspec.structs import replace

from deviceops.v1 import inference_pb2
from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.inference import convert, types
from domains.inference.convert import (
    request_from_proto,
    settings_from_proto,
    settings_to_proto,
)
from domains.inference.core.capabilities import UNBUILT
from domains.inference.core.generations import Verdict
from domains.limits import LIMITS
from domains.values import ImageFormat, OutputSettings
from tests.contract.strategies import requests

FULL = types.GenerationSettings(
    prompt="a",
    negative_prompt="b",
    prompt_2="c",
    negative_prompt_2="",
    model_id="m",
    width=256,
    height=320,
    steps=1,
    guidance_scale=1.3,
    guidance_rescale=0.7,
    clip_skip=0,
    scheduler=types.SchedulerSettings(types.Scheduler.DDIM, types.SigmaSpacing.KARRAS, 0.5),
    image_count=1,
    seed=0,
    seeds=(1, 2),
    precision=types.PrecisionMode.FASTEST,
    vae_tiling=types.Toggle.ON,
    output=OutputSettings(ImageFormat.JPEG, 1, lossless=True, omit_parameters=True),
    preview=types.PreviewSettings(3, 64),
)


def unbuilt(settings: inference_pb2.GenerationSettings) -> tuple[str, ...]:
    """What a request with these settings asks for that is not built."""
    return request_from_proto(inference_pb2.GenerateRequest(settings=settings)).unbuilt


@pytest.mark.parametrize(
    "settings",
    [
        types.GenerationSettings(),
        types.GenerationSettings(vae_tiling=types.Toggle.OFF),
        FULL,
    ],
)
def test_settings_survive_the_wire(settings: types.GenerationSettings) -> None:
    assert settings_from_proto(settings_to_proto(settings)) == settings


def test_unset_and_zero_are_told_apart() -> None:
    zeros = settings_from_proto(
        inference_pb2.GenerationSettings(seed=0, clip_skip=0, guidance_rescale=0, prompt_2="")
    )

    assert (zeros.seed, zeros.clip_skip, zeros.guidance_rescale) == (0, 0, 0)
    assert zeros.prompt_2 == ""
    assert settings_from_proto(inference_pb2.GenerationSettings()).seed is None


def test_the_digest_stands_for_the_whole_request() -> None:
    request = inference_pb2.GenerateRequest()
    request.settings.prompt = "a"
    request.options.metadata["k"] = "v"
    same = inference_pb2.GenerateRequest.FromString(request.SerializeToString())
    other = inference_pb2.GenerateRequest.FromString(request.SerializeToString())
    other.options.metadata["k"] = "w"

    assert request_from_proto(request).digest == request_from_proto(same).digest
    assert request_from_proto(request).digest != request_from_proto(other).digest


def test_every_part_that_is_not_built_is_noticed_when_it_is_used() -> None:
    used = inference_pb2.GenerationSettings(
        prompt_syntax=inference_pb2.PROMPT_SYNTAX_WEIGHTED,
        vae_model_id="v",
        embedding_model_ids=["e"],
    )
    used.refiner.model_id = "r"
    used.loras.add(model_id="l")
    used.control_nets.add(model_id="c")
    used.image_to_image.strength = 0.5
    used.precision.unet_data_type = 1  # type: ignore[assignment]
    used.precision.vae_data_type = 1  # type: ignore[assignment]
    for toggle in ("attention_slicing", "vae_tiling", "cpu_offload"):
        setattr(used.precision, toggle, inference_pb2.TOGGLE_ON)
    noticed = set(unbuilt(used))
    inpainting = inference_pb2.GenerationSettings()
    inpainting.inpainting.strength = 0.5
    noticed |= set(unbuilt(inpainting))

    assert noticed == {f"settings.{field}" for field in UNBUILT}


def test_asking_for_what_happens_anyway_is_fine() -> None:
    plain = inference_pb2.GenerationSettings(
        prompt_syntax=inference_pb2.PROMPT_SYNTAX_PLAIN,
        precision=inference_pb2.Precision(
            mode=inference_pb2.PRECISION_MODE_EXACT,
            attention_slicing=inference_pb2.TOGGLE_OFF,
            vae_slicing=inference_pb2.TOGGLE_ON,
        ),
    )

    assert unbuilt(plain) == ()


def test_postprocessing_is_noticed_on_the_request() -> None:
    request = inference_pb2.GenerateRequest()
    request.postprocessing.add().sharpen.amount = 1

    assert request_from_proto(request).unbuilt == ("postprocessing",)


@given(requests(inference_pb2.GenerateRequest))
def test_whatever_the_wire_carries_converts_or_is_refused(
    message: inference_pb2.GenerateRequest,
) -> None:
    try:
        request = request_from_proto(message)
    except InvalidArgument:
        return
    assert request.settings.prompt == message.settings.prompt


def test_a_verdict_lists_twenty_violations_and_counts_the_rest() -> None:
    violation = FieldViolation("f", Reason.FIELD_OUT_OF_RANGE, "d")

    message = convert.verdict_to_proto(Verdict(violations=(violation,) * 23))

    assert not message.valid
    assert (len(message.violations), message.violations_omitted) == (20, 3)


def test_a_valid_verdict_has_effective_settings() -> None:
    message = convert.verdict_to_proto(Verdict(settings=replace(FULL, seeds=())))

    assert message.valid
    assert message.effective_settings.width == 256
    assert not message.HasField("failure")


def test_limits_arrive_with_everything_they_say() -> None:
    message = convert.limit_to_proto(LIMITS["GenerationSettings.width"])

    assert (message.minimum, message.maximum, message.multiple_of) == (256, 2048, 8)
    assert not message.HasField("default_value")
    assert not message.HasField("max_elements")


def test_every_scheduler_has_its_number() -> None:
    numbers = {convert.SCHEDULERS.to_proto(scheduler) for scheduler in types.Scheduler}

    assert numbers == set(inference_pb2.Scheduler.values()) - {0}
