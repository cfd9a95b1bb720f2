"""`deviceops config`."""

from __future__ import annotations

from server.cli.commands.options import AsJson, Config
from server.cli.reporting import reported


@reported
def config(config: Config = None, as_json: AsJson = False) -> None:
    """Show every setting of the server, and where each value comes from.

    Secrets are not among the settings: the token lies in a file of its own.
    """
    from dataclasses import asdict

    from server import config as settings_source
    from server.cli.output import table
    from server.cli.views import write_json

    values = settings_source.describe(settings_source.load(config=config))
    if as_json:
        write_json({"type": "config", "settings": [asdict(value) for value in values]})
        return
    table(
        ("setting", "value", "source"),
        ((value.name, _shown(value.value), value.source) for value in values),
    )


def _shown(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key}={part}" for key, part in value.items()) or "-"
    return str(value)
