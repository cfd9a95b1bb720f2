"""Models on the wire: every value in its own field, every enum complete."""

from __future__ import annotations

from datetime import UTC, timedelta

import grpc

from deviceops.v1 import common_pb2, errors_pb2, model_info_pb2, model_pb2
from domains.device.types import LoadedComponent
from domains.model import convert
from domains.model.convert import device
from domains.model.types import (
    Architecture,
    Component,
    ModelFormat,
    ModelOnDevice,
    ModelType,
    PredictionType,
)
from domains.model.views import ModelFilter, ModelMatch, ModelOrder
from domains.values import ByteFigure, ModelOrigin, ModelPart, PartDataType, TensorDataType
from tests.fakes.model import PICKLED, START, model

FULL = model(
    "xl",
    name="The XL",
    prediction_type=PredictionType.EPSILON,
    native_width=1024,
    native_height=768,
    data_type=TensorDataType.BFLOAT16,
    parameter_count=7,
    default_scheduler="DDIMScheduler",
    tags=("a", "b"),
    trigger_words=("c",),
    description="It draws.",
    license="MIT",
    is_default=True,
    metadata={"format": "pt"},
    zero_terminal_snr=True,
    inpainting=True,
    lora_rank=8,
)


def test_every_value_arrives_in_its_own_field() -> None:
    message = convert.model_to_proto(FULL)

    assert message == model_info_pb2.ModelInfo(
        model_id="xl",
        name="The XL",
        type=model_info_pb2.MODEL_TYPE_CHECKPOINT,
        architecture=model_info_pb2.MODEL_ARCHITECTURE_SDXL,
        format=model_info_pb2.MODEL_FORMAT_DIFFUSERS_FOLDER,
        prediction_type=model_info_pb2.PREDICTION_TYPE_EPSILON,
        native_width=1024,
        native_height=768,
        data_type=common_pb2.TENSOR_DATA_TYPE_BFLOAT16,
        parameter_count=7,
        size_bytes=100,
        modify_time=message.modify_time,
        description="It draws.",
        license="MIT",
        tags=["a", "b"],
        trigger_words=["c"],
        header_metadata={"format": "pt"},
        scheduler_class="DDIMScheduler",
        is_default=True,
        usable=True,
        zero_terminal_snr=True,
        inpainting=True,
        lora_rank=8,
    )
    assert message.modify_time.ToDatetime(UTC) == START


def test_no_message_tells_where_a_model_lies() -> None:
    assert "nowhere" not in str(convert.model_to_proto(FULL))


def test_what_is_not_known_is_unspecified() -> None:
    message = convert.model_to_proto(model("x", type=None, architecture=None))

    assert message.type == model_info_pb2.MODEL_TYPE_UNSPECIFIED
    assert message.architecture == model_info_pb2.MODEL_ARCHITECTURE_UNSPECIFIED
    assert message.data_type == common_pb2.TENSOR_DATA_TYPE_UNSPECIFIED


def test_a_problem_reads_like_the_error_that_use_would_get() -> None:
    message = convert.model_to_proto(model("x", problem=PICKLED))

    assert not message.usable
    assert message.problem == errors_pb2.Failure(
        status_code=grpc.StatusCode.FAILED_PRECONDITION.value[0],
        reason=errors_pb2.ERROR_REASON_MODEL_UNSAFE_PICKLE,
        message="It is a pickle.",
        metadata={"component": "all"},
    )
    assert not convert.model_to_proto(FULL).HasField("problem")


def test_lists_leave_out_the_headers_metadata_and_nothing_else() -> None:
    listed = convert.listed_model_to_proto(FULL)
    match = convert.match_to_proto(ModelMatch(FULL, 0.5))
    whole = convert.model_to_proto(FULL)
    whole.ClearField("header_metadata")

    assert listed == match.model == whole
    assert match.score == 0.5


def test_components_arrive_whole() -> None:
    part = Component("unet", "UNet2DConditionModel", 5, 10, TensorDataType.FLOAT16)

    assert convert.component_to_proto(part) == model_info_pb2.ModelComponent(
        name="unet",
        class_name="UNet2DConditionModel",
        parameter_count=5,
        size_bytes=10,
        data_type=common_pb2.TENSOR_DATA_TYPE_FLOAT16,
    )


def test_filters_are_read_whole_and_nothing_set_is_any() -> None:
    listed = convert.list_filter_from_proto(
        model_pb2.ListModelsRequest(
            type=model_info_pb2.MODEL_TYPE_LORA,
            architecture=model_info_pb2.MODEL_ARCHITECTURE_SD1,
            format=model_info_pb2.MODEL_FORMAT_PICKLE,
            tags=["a"],
            usable_only=True,
            compatible_with_model_id="xl",
        )
    )
    searched = convert.search_filter_from_proto(
        model_pb2.SearchModelsRequest(
            type=model_info_pb2.MODEL_TYPE_VAE,
            architecture=model_info_pb2.MODEL_ARCHITECTURE_SDXL,
        )
    )

    assert listed == ModelFilter(
        ModelType.LORA,
        Architecture.SD1,
        ModelFormat.PICKLE,
        ("a",),
        usable_only=True,
        goes_with="xl",
    )
    assert searched == ModelFilter(ModelType.VAE, Architecture.SDXL)
    assert convert.list_filter_from_proto(model_pb2.ListModelsRequest()) == ModelFilter()


def test_enums_map_completely() -> None:
    unmapped = set()
    for numbers, wire in (
        ({convert.TYPES.to_proto(m) for m in ModelType}, model_info_pb2.ModelType),
        (
            {convert.ARCHITECTURES.to_proto(m) for m in Architecture},
            model_info_pb2.ModelArchitecture,
        ),
        ({convert.FORMATS.to_proto(m) for m in ModelFormat}, model_info_pb2.ModelFormat),
        (
            {convert.PREDICTIONS.to_proto(m) for m in PredictionType},
            model_info_pb2.PredictionType,
        ),
        ({convert.ORDERS.to_proto(m) for m in ModelOrder}, model_pb2.ModelOrder),
        ({device.ORIGINS.to_proto(m) for m in ModelOrigin}, model_info_pb2.ModelOrigin),
    ):
        unmapped |= {wire.Name(n) for n in set(wire.values()) - {0} - numbers}
    assert unmapped == set()


def test_a_loaded_model_arrives_whole() -> None:
    used = START + timedelta(hours=1)
    parts = tuple(
        LoadedComponent("xl", name, ByteFigure.measured(5, "torch"), data_type, used)
        for name, data_type in (
            ("unet", TensorDataType.FLOAT16),
            ("vae", TensorDataType.FLOAT32),
            ("text_encoder", TensorDataType.FLOAT16),
            ("text_encoder_2", None),
        )
    )
    message = device.loaded_to_proto(
        ModelOnDevice("xl", "cuda:0", parts, ModelOrigin.DISK, START)
    )

    assert (message.model_id, message.device_id) == ("xl", "cuda:0")
    assert message.origin == model_info_pb2.MODEL_ORIGIN_DISK
    assert message.size.value_bytes == 20
    assert message.load_time.ToDatetime(UTC) == START
    assert message.last_use_time.ToDatetime(UTC) == used
    assert [(part.part, part.data_type) for part in message.data_types] == [
        (common_pb2.MODEL_PART_DENOISER, common_pb2.TENSOR_DATA_TYPE_FLOAT16),
        (common_pb2.MODEL_PART_VAE, common_pb2.TENSOR_DATA_TYPE_FLOAT32),
        (common_pb2.MODEL_PART_TEXT_ENCODER, common_pb2.TENSOR_DATA_TYPE_FLOAT16),
    ]


def test_a_load_arrives_whole() -> None:
    request = model_pb2.LoadModelRequest(
        data_types=[
            common_pb2.PartDataType(
                part=common_pb2.MODEL_PART_VAE, data_type=common_pb2.TENSOR_DATA_TYPE_FLOAT16
            )
        ],
        warm_up=True,
        dry_run=True,
    )
    load = device.load_from_proto(request)
    assert load.data_types == (PartDataType(ModelPart.VAE, TensorDataType.FLOAT16),)
    assert (load.warm_up, load.dry_run) == (True, True)
