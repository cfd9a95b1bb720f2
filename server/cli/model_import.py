"""Bringing a model in from this machine: its files go up as artifacts and become a model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from deviceops.v1 import artifact_pb2, model_pb2, model_task_pb2
from server.cli import device_tasks
from server.cli.choices import UnusableOptions
from server.cli.client import Client
from server.cli.exits import Exit
from server.cli.failures import CallFailed, CallFailure
from server.cli.model_files import PICKLES, format_of, needed
from server.cli.upload import upload


def files_at(path: Path) -> Mapping[str, Path]:
    """The files of the model that lies at `path`, by their place in it.

    Raises:
        UnusableOptions: There is none.
    """
    if path.is_file():
        if not path.name.lower().endswith((".safetensors", *PICKLES)):
            raise UnusableOptions(f"{path} is no model file: its name ends otherwise")
        return {path.name: path}
    if not path.is_dir():
        raise UnusableOptions(f"there is no file or folder {path}")
    found: dict[str, Path] = {}
    for folder, below, names in os.walk(path):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            file = Path(folder, name)
            if not name.startswith("."):
                found[file.relative_to(path).as_posix()] = file
    chosen = needed(found, lambda name: found[name].read_bytes())
    return {name: found[name] for name in chosen}


def check_free(client: Client, model_id: str) -> None:
    """Refuse an id that a model has before gigabytes are fetched and sent for it.

    Raises:
        CallFailed: NAME_TAKEN; MODEL_ID_INVALID or whatever else the server says of that id.
    """
    try:
        client.ask(client.models.GetModel, model_pb2.GetModelRequest(model_id=model_id))
    except CallFailed as error:
        if error.failure.status == "NOT_FOUND":
            return
        raise
    raise CallFailed(
        CallFailure(
            "ALREADY_EXISTS",
            f"There is a model {model_id!r} already; choose another id with --name.",
            reason="NAME_TAKEN",
            metadata={"model_id": model_id},
        )
    )


def bring(client: Client, model_id: str, files: Mapping[str, Path], *, as_json: bool) -> Exit:
    """Upload the files, have them become a model, and let go of the uploads; the exit code.

    Files that are there already are not sent. After a failure what was sent stays for the
    next try, as long as artifacts are kept.

    Raises:
        UnusableOptions: A file cannot be read.
        CallFailed: The server refused, or the connection was lost for good.
    """
    request = model_task_pb2.ImportModelRequest(
        model_id=model_id,
        format=format_of(files),  # type: ignore[arg-type]
    )
    sent: list[str] = []
    for name, path in files.items():
        if not path.stat().st_size:
            continue  # no upload is empty, and no model needs a file that is
        answer = upload(client, path, None, None)
        artifact_id = answer.artifact.artifact_id
        request.files.add(relative_path=name, artifact_id=artifact_id)
        if not answer.existed:
            sent.append(artifact_id)
    code = device_tasks.import_model(client, request, as_json=as_json)
    if code is Exit.OK:
        for artifact_id in sent:
            wanted = artifact_pb2.DeleteArtifactRequest(artifact_id=artifact_id)
            with contextlib.suppress(CallFailed):  # they go by themselves in the end
                client.ask(client.artifacts.DeleteArtifact, wanted)
    return code
