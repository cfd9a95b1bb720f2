"""`deviceops models` and its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.commands import (
    model_bringing,
    model_cache,
    model_tasks,
    model_upkeep,
    models_on_device,
)
from server.cli.commands.options import AsJson, connected
from server.cli.listing import ListingGroup
from server.cli.reporting import reported

if TYPE_CHECKING:
    from deviceops.v1 import model_info_pb2

app = typer.Typer(
    cls=ListingGroup,
    help="List the models of the catalogue; show, load, unload one; bring one in.",
)
models_on_device.add_to(app)
model_tasks.add_to(app)
model_upkeep.add_to(app)
model_bringing.add_to(app)
app.add_typer(model_cache.app, name="cache")


@app.callback(invoke_without_command=True)
@reported
def models(
    context: typer.Context,
    model_type: Annotated[
        str | None, typer.Option("--type", help="checkpoint, lora, vae, control-net, ...")
    ] = None,
    architecture: Annotated[str | None, typer.Option(help="sdxl, sd1, ...")] = None,
    model_format: Annotated[
        str | None, typer.Option("--format", help="diffusers-folder, safetensors, pickle")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Repeatable: all of them.")] = None,
    order: Annotated[str | None, typer.Option(help="name, modify-time, size, last-use")] = None,
    usable: Annotated[
        bool, typer.Option("--usable", help="Leave out those that cannot be used.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the models of the catalogue."""
    if context.invoked_subcommand is not None:
        return
    from deviceops.v1 import model_info_pb2, model_pb2
    from server.cli.choices import choose
    from server.cli.output import table
    from server.cli.views import write_message
    from server.cli.wording import count, enum_word, size

    request = model_pb2.ListModelsRequest(tags=tag or (), usable_only=usable, page_size=500)
    if model_type:
        request.type = choose(model_info_pb2.ModelType, "MODEL_TYPE_", model_type)
    if architecture:
        request.architecture = choose(
            model_info_pb2.ModelArchitecture, "MODEL_ARCHITECTURE_", architecture
        )
    if model_format:
        request.format = choose(model_info_pb2.ModelFormat, "MODEL_FORMAT_", model_format)
    if order:
        request.order = choose(model_pb2.ModelOrder, "MODEL_ORDER_", order)
    whole = model_pb2.ListModelsResponse()
    with connected(context) as client:
        for page in client.pages(client.models.ListModels, request):
            whole.models.extend(page.models)
            whole.total_count = page.total_count
            whole.problems[:] = page.problems
    if as_json:
        write_message(whole)
        return
    table(
        ("model", "name", "type", "architecture", "size px", "parameters", "on disk", "remark"),
        (
            (
                model.model_id + (" *" if model.is_default else ""),
                model.name if model.name != model.model_id else "",
                enum_word(model_info_pb2.ModelType, model.type, "MODEL_TYPE_"),
                _architecture(model),
                f"{model.native_width}x{model.native_height}" if model.native_width else "",
                count(model.parameter_count) if model.parameter_count else "",
                size(model.size_bytes),
                _remark(model),
            )
            for model in whole.models
        ),
    )
    for sentence in whole.problems:
        typer.echo(f"left out: {sentence}", err=True)


def _remark(model: model_info_pb2.ModelInfo) -> str:
    """Why it cannot be used, else what it is waiting for."""
    if not model.usable:
        return model.problem.message or "not usable"
    return model.remarks[0] if model.remarks else ""


@app.command("show")
@reported
def show(
    context: typer.Context,
    model_id: Annotated[str, typer.Argument(help="Model id; empty for the default one.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show everything known about one model."""
    from deviceops.v1 import common_pb2, model_info_pb2, model_pb2
    from server.cli.output import details
    from server.cli.views import write_message
    from server.cli.wording import count, enum_word, moment, size

    with connected(context) as client:
        found = client.ask(client.models.GetModel, model_pb2.GetModelRequest(model_id=model_id))
    if as_json:
        write_message(found)
        return
    model = found.model
    details(
        (
            ("model", model.model_id + (" (default)" if model.is_default else "")),
            ("name", model.name if model.name != model.model_id else ""),
            ("type", enum_word(model_info_pb2.ModelType, model.type, "MODEL_TYPE_")),
            ("architecture", _architecture(model)),
            ("kind", model.kind),
            ("format", enum_word(model_info_pb2.ModelFormat, model.format, "MODEL_FORMAT_")),
            (
                "native size",
                f"{model.native_width}x{model.native_height}" if model.native_width else "",
            ),
            ("parameters", count(model.parameter_count) if model.parameter_count else ""),
            (
                "data type",
                enum_word(common_pb2.TensorDataType, model.data_type, "TENSOR_DATA_TYPE_")
                if model.data_type
                else "",
            ),
            ("predicts", _predicts(model)),
            ("steps", f"made for {model.distilled_steps}" if model.distilled_steps else ""),
            ("rank", _rank(model)),
            ("scheduler", model.scheduler_class),
            ("on disk", size(model.size_bytes)),
            ("changed", moment(model.modify_time)),
            ("sha256", model.sha256 or "pending"),
            ("also called", ", ".join(model.aliases)),
            ("read-only", "yes" if model.read_only else ""),
            ("licence", model.license),
            ("tags", ", ".join(model.tags)),
            ("trigger words", ", ".join(model.trigger_words)),
            ("description", model.description),
            ("components", ", ".join(component.name for component in found.components)),
            ("usable", "yes" if model.usable else f"no: {model.problem.message}"),
            *(("remark", remark) for remark in model.remarks),
        )
    )


def _predicts(model: model_info_pb2.ModelInfo) -> str:
    from deviceops.v1 import model_info_pb2
    from server.cli.wording import enum_word

    said = []
    if model.prediction_type:
        kinds = model_info_pb2.PredictionType
        said.append(enum_word(kinds, model.prediction_type, "PREDICTION_TYPE_"))
    if model.zero_terminal_snr:
        said.append("zero terminal SNR")
    if model.inpainting:
        said.append("inpainting")
    return ", ".join(said)


def _rank(model: model_info_pb2.ModelInfo) -> str:
    alpha = f", alpha {model.lora_alpha:g}" if model.lora_alpha else ""
    return f"{model.lora_rank}{alpha}" if model.lora_rank else ""


def _architecture(model: model_info_pb2.ModelInfo) -> str:
    from deviceops.v1 import model_info_pb2
    from server.cli.wording import enum_word

    if not model.architecture:
        return ""
    return enum_word(
        model_info_pb2.ModelArchitecture, model.architecture, "MODEL_ARCHITECTURE_"
    )
