"""The commands and the options that stand before them.

Only typer is imported here and in `commands/`: what a command needs, it imports when it
runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.cli.commands import (
    artifacts,
    batches,
    config,
    devices,
    doctor,
    generate,
    memory,
    models,
    postprocessors,
    preview_control,
    process,
    safety,
    serve,
    server,
    sessions,
    statistics,
    token,
    upload,
    verify,
    workflow,
)
from server.cli.commands.options import remember_server

_EPILOGUE = (
    "Exit codes: 0 done, 1 failed, 2 bad input, 3 no server or it is unavailable,"
    " 4 not found, 5 something is full, 130 cancelled."
)

app = typer.Typer(
    name="deviceops",
    help="Draw pictures on this machine's devices, and run the server that does it.",
    epilog=_EPILOGUE,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def server_options(
    context: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="The server; by default the one on this machine."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="Access token; other users see it in the process list."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File that holds the access token.")
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PEM that signed the server's certificate: use TLS."),
    ] = None,
    client_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM certificate to show the server.")
    ] = None,
    client_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM key of --client-certificate.")
    ] = None,
) -> None:
    """Where the server is; environment variables of the same meaning begin DEVICEOPS_."""
    remember_server(
        context,
        server=server,
        token=token,
        token_file=token_file,
        tls_ca=tls_ca,
        client_certificate=client_certificate,
        client_key=client_key,
    )


app.command("serve")(serve.serve)
app.command("generate", cls=generate.GenerateCommand)(generate.generate)
app.command("preview-control")(preview_control.preview_control)
app.command("process")(process.process)
app.command("upscale")(process.upscale)
app.add_typer(devices.app, name="devices")
app.add_typer(memory.app, name="memory")
app.add_typer(models.app, name="models")
app.add_typer(sessions.app, name="sessions")
app.add_typer(batches.app, name="batch")
app.add_typer(workflow.app, name="workflow")
app.add_typer(artifacts.app, name="artifacts")
app.add_typer(safety.app, name="safety")
app.add_typer(postprocessors.app, name="postprocessors")
app.command("statistics")(statistics.statistics)
app.command("upload")(upload.upload)
app.command("verify")(verify.verify)
app.add_typer(server.app, name="server")
app.add_typer(token.app, name="token")
app.command("config")(config.config)
app.command("doctor")(doctor.doctor)
