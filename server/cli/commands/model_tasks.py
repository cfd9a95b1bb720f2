"""`deviceops models validate`, `convert` and `optimize`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.commands.options import AnyOf, AsJson, Devices, connected
from server.cli.reporting import leave, reported

if TYPE_CHECKING:
    from deviceops.v1 import common_pb2

ModelId = Annotated[str, typer.Argument(metavar="MODEL")]
TargetId = Annotated[str, typer.Argument(metavar="COPY", help="Id of the copy.")]
DataType = Annotated[str, typer.Option(help="float32, float16 or bfloat16.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `deviceops models`."""
    app.command("validate")(validate)
    app.command("convert")(convert)
    app.command("optimize")(optimize)


@reported
def validate(
    context: typer.Context,
    model_id: ModelId,
    depth: Annotated[str, typer.Option(help="header, full or deep.")] = "header",
    device: Annotated[str, typer.Option(help="Also whether it fits there.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check a model's files; what is wrong with them is listed."""
    from deviceops.v1 import model_task_pb2
    from server.cli import device_tasks
    from server.cli.choices import choose

    request = model_task_pb2.ValidateModelRequest(
        model_id=model_id,
        depth=choose(model_task_pb2.ValidationDepth, "VALIDATION_DEPTH_", depth),
        device_id=device,
    )
    with connected(context) as client:
        leave(device_tasks.validate(client, request, as_json=as_json))


@reported
def convert(
    context: typer.Context,
    model_id: ModelId,
    copy_id: TargetId,
    data_type: DataType = "",
    folder: Annotated[
        bool, typer.Option("--folder", help="Write a diffusers folder; by default one file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a copy of a model as safetensors: out of a pickle, or in the other layout too."""
    from deviceops.v1 import model_info_pb2, model_task_pb2
    from server.cli import device_tasks

    request = model_task_pb2.ConvertModelRequest(
        model_id=model_id,
        target_model_id=copy_id,
        data_type=_data_type(data_type),
        format=model_info_pb2.MODEL_FORMAT_DIFFUSERS_FOLDER
        if folder
        else model_info_pb2.MODEL_FORMAT_SAFETENSORS,
    )
    with connected(context) as client:
        leave(device_tasks.convert(client, request, as_json=as_json))


@reported
def optimize(
    context: typer.Context,
    model_id: ModelId,
    copy_id: TargetId,
    data_type: DataType = "",
    vae_data_type: Annotated[
        str, typer.Option(help="Of the VAE alone: float32 for one that overflows.")
    ] = "",
    prune: Annotated[
        bool, typer.Option("--prune", help="Leave out what only training needs.")
    ] = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Measure both where --device says, and compare a picture of each.",
        ),
    ] = False,
    device: Devices = None,
    any_of: AnyOf = "",
    as_json: AsJson = False,
) -> None:
    """Write a smaller copy of a model, in float16 by default."""
    from deviceops.v1 import device_info_pb2, model_task_pb2
    from server.cli import device_tasks
    from server.cli.placing import placement

    where = placement(device or (), any_of)
    if where is None and measure:
        where = device_info_pb2.DevicePlacement()
    request = model_task_pb2.OptimizeModelRequest(
        model_id=model_id,
        target_model_id=copy_id,
        data_type=_data_type(data_type),
        vae_data_type=_data_type(vae_data_type),
        prune=prune,
        placement=where,
    )
    with connected(context) as client:
        leave(device_tasks.optimize_model(client, request, as_json=as_json))


def _data_type(text: str) -> common_pb2.TensorDataType.ValueType:
    from deviceops.v1 import common_pb2
    from server.cli.choices import choose

    if not text:
        return common_pb2.TENSOR_DATA_TYPE_UNSPECIFIED
    return choose(common_pb2.TensorDataType, "TENSOR_DATA_TYPE_", text)
