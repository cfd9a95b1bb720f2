"""Generation requests on the wire."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from msgspec.structs import replace

from deviceops.v1 import (
    common_pb2,
    generation_pb2,
    inference_pb2,
    sampling_pb2,
)
from domains.chain.types import SharpenStep
from domains.conversions import limit_to_proto
from domains.errors import FeatureNotBuilt, FieldViolation, InvalidArgument, Reason
from domains.inference import convert, types
from domains.inference.convert import (
    request_from_proto,
    settings_from_proto,
    settings_to_proto,
)
from domains.inference.core.capabilities import UNBUILT
from domains.inference.core.generations import Verdict
from domains.limits import LIMITS
from domains.values import ImageFileFormat, ModelOrigin, ModelPart, OutputSettings
from tests.contract.strategies import requests

FULL = types.GenerationSettings(
    prompt="a",
    negative_prompt="b",
    prompt_syntax=types.PromptSyntax.WEIGHTED,
    model_id="m",
    width=256,
    height=320,
    steps=1,
    guidance=types.GuidanceSettings(1.3, 0.7, 0.1, 0.9),
    clip_skip=0,
    scheduler=types.SchedulerSettings(
        types.Scheduler.DDIM, types.SigmaSpacing.KARRAS, ddim=types.DdimOptions(0.5)
    ),
    image_count=1,
    seed=0,
    seeds=(1, 2),
    precision=types.PrecisionMode.FASTEST,
    vae_tiling=types.Toggle.ON,
    output=OutputSettings(ImageFileFormat.JPEG, 1, lossless=True, omit_parameters=True),
    sdxl=types.SdxlSettings(
        "c",
        "",
        types.SizeConditioning(types.ConditioningSize(0, 1), None, types.ConditioningPoint()),
        types.SizeConditioning(target_size=types.ConditioningSize(3, 4)),
    ),
)
SAMPLERS = [
    types.SchedulerSettings(
        timestep_spacing=types.TimestepSpacing.TRAILING, zero_terminal_snr=True
    ),
    types.SchedulerSettings(zero_terminal_snr=False, solver=types.SolverOptions()),
    types.SchedulerSettings(
        solver=types.SolverOptions(3, types.SolverAlgorithm.SDE_DPMSOLVER_PP, False)
    ),
    types.SchedulerSettings(churn=types.ChurnOptions(1.5, 0.25, 20.0, 0.5)),
    types.SchedulerSettings(ddim=types.DdimOptions()),
    types.SchedulerSettings(ancestral=types.AncestralOptions()),
    types.SchedulerSettings(ancestral=types.AncestralOptions(0.0, 0.5)),
    types.SchedulerSettings(linear_multistep=types.LinearMultistepOptions(2)),
    types.SchedulerSettings(sigmas=(14.5, 2.0, 0.5)),
]


def unbuilt(settings: generation_pb2.GenerationSettings) -> tuple[str, ...]:
    """What a request with these settings asks for that is not built."""
    return request_from_proto(inference_pb2.GenerateRequest(settings=settings)).unbuilt


@pytest.mark.parametrize(
    "settings",
    [
        types.GenerationSettings(),
        types.GenerationSettings(vae_tiling=types.Toggle.OFF),
        FULL,
        *(types.GenerationSettings(scheduler=each) for each in SAMPLERS),
    ],
)
def test_settings_survive_the_wire(settings: types.GenerationSettings) -> None:
    assert settings_from_proto(settings_to_proto(settings)) == settings


def test_own_noise_levels_decide_the_steps_where_nothing_is_said() -> None:
    asked = generation_pb2.GenerationSettings()
    asked.scheduler.sigmas[:] = (3.0, 2.0, 1.0)
    assert settings_from_proto(asked).steps == 3
    asked.steps = 5
    assert settings_from_proto(asked).steps == 5


def test_unset_and_zero_are_told_apart() -> None:
    zeros = settings_from_proto(
        generation_pb2.GenerationSettings(
            seed=0,
            clip_skip=0,
            guidance=sampling_pb2.GuidanceSettings(scale=0),
            sdxl=generation_pb2.SdxlSettings(prompt_2=""),
        )
    )

    assert (zeros.seed, zeros.clip_skip, zeros.guidance.scale) == (0, 0, 0)
    assert zeros.sdxl == types.SdxlSettings("", None)
    assert settings_from_proto(generation_pb2.GenerationSettings()).seed is None


def test_the_digest_stands_for_what_is_asked_and_not_for_how() -> None:
    request = inference_pb2.GenerateRequest()
    request.settings.prompt = "a"
    same = inference_pb2.GenerateRequest.FromString(request.SerializeToString())
    same.options.metadata["k"] = "w"
    same.delivery.omit_image_data = True
    other = inference_pb2.GenerateRequest.FromString(request.SerializeToString())
    other.placement.device_id = "cpu:0"

    assert request_from_proto(request).digest == request_from_proto(same).digest
    assert request_from_proto(request).digest != request_from_proto(other).digest


@pytest.mark.parametrize("path", UNBUILT)
def test_every_part_that_is_not_built_is_noticed_when_it_is_used(path: str) -> None:
    used = generation_pb2.GenerationSettings()
    *parents, name = path.split(".")
    message, where = used, "settings"
    for parent in parents:
        message, where = getattr(message, parent), f"{where}.{parent}"
        if not isinstance(message, Message):
            message.add()
            message, where = message.add(), f"{where}[1]"
    _use(message, name)

    assert unbuilt(used) == (f"{where}.{name}",)


def _use(message: Message, name: str) -> None:
    """Set a field to something that asks for a thing."""
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    if field.is_repeated:
        value.add() if field.message_type else value.append(_VALUES[field.cpp_type])
    elif field.message_type:
        value.SetInParent()
    else:
        # OFF is what happens anyway, but for slicing, where ON is.
        asked = common_pb2.TOGGLE_OFF if name == "vae_slicing" else common_pb2.TOGGLE_ON
        setattr(message, name, asked if field.enum_type else _VALUES[field.cpp_type])


_VALUES = {
    FieldDescriptor.CPPTYPE_STRING: "a",
    FieldDescriptor.CPPTYPE_DOUBLE: 0.5,
    FieldDescriptor.CPPTYPE_BOOL: True,
}


@pytest.mark.parametrize("field", ["seamless_vertically", "seamless_horizontally"])
def test_leaving_out_what_is_not_built_anyway_is_fine(field: str) -> None:
    assert unbuilt(generation_pb2.GenerationSettings(**{field: False})) == ()


def test_values_that_are_not_built_are_refused_by_name() -> None:
    request = inference_pb2.GenerateRequest()
    request.settings.scheduler.scheduler = sampling_pb2.SCHEDULER_DPM_SOLVER_SDE

    with pytest.raises(FeatureNotBuilt, match="SCHEDULER_DPM_SOLVER_SDE"):
        request_from_proto(request)


def test_asking_for_what_happens_anyway_is_fine() -> None:
    plain = generation_pb2.GenerationSettings(
        precision=generation_pb2.Precision(
            mode=generation_pb2.PRECISION_MODE_EXACT,
            attention_slicing=common_pb2.TOGGLE_OFF,
            vae_slicing=common_pb2.TOGGLE_ON,
        ),
    )

    assert unbuilt(plain) == ()


def test_postprocessing_is_noticed_on_the_request() -> None:
    request = inference_pb2.GenerateRequest()
    request.postprocessing.add().sharpen.amount = 1

    found = request_from_proto(request)

    assert found.chain.steps == (SharpenStep(1.0),)
    assert not found.unbuilt


@given(requests(inference_pb2.GenerateRequest))
def test_whatever_the_wire_carries_converts_or_is_refused(
    message: inference_pb2.GenerateRequest,
) -> None:
    try:
        request = request_from_proto(message)
    except (InvalidArgument, FeatureNotBuilt):
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
    message = limit_to_proto(LIMITS["GenerationSettings.width"])

    assert (message.minimum, message.maximum, message.multiple_of) == (256, 2048, 8)
    assert not message.HasField("default_value")
    assert not message.HasField("max_elements")


def test_every_scheduler_has_its_number() -> None:
    numbers = {convert.SCHEDULERS.to_proto(scheduler) for scheduler in types.Scheduler}

    assert numbers == set(sampling_pb2.Scheduler.values()) - {
        sampling_pb2.SCHEDULER_UNSPECIFIED,
        sampling_pb2.SCHEDULER_DPM_SOLVER_SDE,
    }


def test_every_way_of_computing_is_told() -> None:
    computed = types.Computation(
        channels_last=(ModelPart.VAE,),
        compiled=(ModelPart.DENOISER,),
        recorded=(ModelPart.DENOISER,),
        attention_kernels=(types.AttentionKernel.FLASH,),
        attention_sliced=True,
        vae_tiled=True,
        most_together=3,
        decoded_beside=2,
    )
    facts = types.GenerationFacts(
        settings=FULL,
        models=(),
        data_types=(),
        origin=ModelOrigin.LOADED,
        software_versions={},
        computed=computed,
    )
    message = convert.facts_to_proto(facts).computed
    told = {field.name: value for field, value in message.ListFields()}
    assert told.keys() == set(types.Computation.__struct_fields__)
    assert (told["most_together"], told["decoded_beside"]) == (3, 2)
    assert (computed | computed).decoded_beside == 4
