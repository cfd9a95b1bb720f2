"""Checks of the settings and of the files and folders they name."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.checks import Finding, note, ok, problem
from server.cli.wording import size

if TYPE_CHECKING:
    from server.config import Settings

LEAST_DISK_BYTES = 2**30


def check_config(file: Path | None) -> tuple[Finding, Settings | None]:
    """The settings as a server started now would read them; None when they are wrong."""
    from server import config

    try:
        settings = config.load(config=file)
    except config.ConfigError as error:
        return problem("settings", str(error), "Correct it where it was set."), None
    changed = [f"{v.name} ({v.source})" for v in config.describe(settings)]
    changed = [entry for entry in changed if not entry.endswith("(default)")]
    return ok("settings", f"valid; set: {', '.join(changed) or 'nothing'}"), settings


def check_token(settings: Settings) -> Finding:
    """The token file and who may read it."""
    from server.token import TokenError, read

    path = settings.token_path
    if not settings.auth:
        return note("token", "auth is off: any program on this machine may call the server")
    if not os.path.lexists(path):
        return ok("token", f"{path} is not there; a start makes it, unless it was revoked")
    try:
        read(path)
    except TokenError as error:
        return problem("token", str(error), "Then start the server again.")
    return ok("token", f"{path}, readable by its owner alone")


def check_token_list(settings: Settings) -> Finding:
    """The list of tokens: whether a server can use it, and whom it lets in."""
    from server.token import TokenError
    from server.token_list import TokenFiles

    files = TokenFiles(settings.token_path)
    try:
        listed = files.read()
    except TokenError as error:
        return problem("tokens", str(error), "A server that runs goes by what it read before.")
    if not settings.auth:
        return note("tokens", "auth is off: none is asked for")
    if listed is None:
        return ok("tokens", f"{files.list} does not exist yet; the next start makes it")
    named = ", ".join(f"{one.name} ({one.role})" for one in listed.tokens)
    if not listed.has_admin:
        advice = "Add one: deviceops token add NAME --role admin"
        return problem("tokens", f"{named or 'none'}; none with role admin", advice)
    return ok("tokens", named)


def check_disk(settings: Settings) -> Finding:
    """Room for artifacts and the journal."""
    folder = settings.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{size(free)} free for {settings.data_dir}"
    if free < settings.artifact_min_free_bytes:
        advice = (
            f"No picture is kept below {size(settings.artifact_min_free_bytes)}"
            " (artifact_min_free_bytes)."
        )
        return problem("disk", found, advice)
    if free < LEAST_DISK_BYTES:
        return problem("disk", found, f"Free at least {size(LEAST_DISK_BYTES)}.")
    if free < settings.artifact_quota_bytes:
        quota = size(settings.artifact_quota_bytes)
        advice = f"Pictures may take up to {quota} (artifact_quota_bytes)."
        return note("disk", found, advice)
    return ok("disk", found)


def check_model_roots(settings: Settings) -> Finding:
    """The folders that models are looked for in."""
    there = [str(root) for root in settings.model_roots if root.is_dir()]
    missing = [str(root) for root in settings.model_roots if not root.is_dir()]
    if not there:
        advice = "Make one, or name another with --model-root or model_roots."
        return problem("model folders", f"none exists: {', '.join(missing)}", advice)
    if missing:
        return note("model folders", f"{', '.join(there)}; missing: {', '.join(missing)}")
    return ok("model folders", ", ".join(there))


def check_port(settings: Settings) -> Finding:
    """Whether a server started now could have its port."""
    if settings.port == 0:
        return ok("port", "any free one is taken at the start")
    where = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            found = f"{where} cannot be had: {error.strerror or error}"
            return problem("port", found, "End what uses it, or choose another with --port.")
    return ok("port", f"{where} is free")
