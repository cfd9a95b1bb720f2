"""Workflows in files: the contract's JSON form, or its text form."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import json_format, text_format

from deviceops.v1 import workflow_pb2
from server.cli.choices import UnusableOptions

SUFFIXES = (".json", ".textproto", ".txtpb")


def read_workflow(path: Path) -> workflow_pb2.Workflow:
    """The workflow in a file: JSON where its name ends so, else the text form.

    Raises:
        UnusableOptions: It cannot be read, or is none.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UnusableOptions(f"{path} cannot be read: {why}") from error
    made = workflow_pb2.Workflow()
    try:
        if path.suffix == ".json":
            return json_format.Parse(text, made)
        return text_format.Parse(text, made)
    except (json_format.ParseError, text_format.ParseError) as error:
        raise UnusableOptions(f"{path} is no workflow: {error}") from error


def names_file(name: str) -> bool:
    """Whether what a person named is a file and not a stored workflow."""
    return name.endswith(SUFFIXES)


def stored_form(workflow: workflow_pb2.Workflow) -> workflow_pb2.Workflow:
    """The workflow without what the server says of it, as it can be stored again."""
    own = workflow_pb2.Workflow()
    own.CopyFrom(workflow)
    for field in ("built_in", "create_time", "version", "owner"):
        own.ClearField(field)
    return own
