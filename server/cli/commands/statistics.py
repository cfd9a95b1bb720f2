"""`deviceops statistics`."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import reported


@reported
def statistics(
    context: typer.Context,
    device: Annotated[
        str, typer.Option("--device", "-d", metavar="ID", help="Only of this device.")
    ] = "",
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="ID", help="Only of this model.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show how many generations ended how, and where their time went; kept over restarts."""
    from deviceops.v1 import inference_pb2
    from server.cli import statistics_rows
    from server.cli.views import write_message

    request = inference_pb2.GetInferenceStatisticsRequest(device_id=device, model_id=model)
    with connected(context) as client:
        found = client.ask(client.inference.GetInferenceStatistics, request)
    if as_json:
        write_message(found)
    else:
        statistics_rows.show(found)
