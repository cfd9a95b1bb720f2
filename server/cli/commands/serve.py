"""`deviceops serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.cli.commands.options import Config
from server.cli.reporting import reported


@reported
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes any free one.")] = None,
    model_root: Annotated[
        list[Path] | None, typer.Option(help="Folder with models; repeatable.")
    ] = None,
    default_model: Annotated[str | None, typer.Option(help="Model id.")] = None,
    default_device: Annotated[str | None, typer.Option(help="Device id or alias.")] = None,
    preload: Annotated[
        bool | None,
        typer.Option(
            "--preload/--no-preload",
            help="Load the default model at the start.",
            show_default=False,
        ),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let any program on this machine call.")
    ] = False,
    metrics_port: Annotated[
        int | None, typer.Option(help="For Prometheus; 0 turns it off.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Artifacts, token, locks.")] = None,
    runtime_dir: Annotated[Path | None, typer.Option(help="Token and port file.")] = None,
    config: Config = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, json, console")] = None,
) -> None:
    """Run the server until Ctrl-C or a termination signal, then let running work end.

    Options win over DEVICEOPS_ environment variables, those over the TOML file.
    """
    from server.cli.serving import run

    flags = {
        "host": host,
        "port": port,
        "model_roots": tuple(model_root) if model_root else None,
        "default_model": default_model,
        "default_device": default_device,
        "preload": preload,
        "auth": False if no_auth else None,
        "metrics_port": metrics_port,
        "data_dir": data_dir,
        "runtime_dir": runtime_dir,
        "config": config,
        "log_level": log_level,
        "log_format": log_format,
    }
    raise typer.Exit(run(flags))
