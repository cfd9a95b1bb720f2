"""The workflows that come with the server: files of the contract's text format."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format

from deviceops.v1 import workflow_pb2
from domains.processing.workflows.types import StoredWorkflow

_FOLDER = Path(__file__).parents[1] / "ready_made"


def ready_made() -> list[StoredWorkflow]:
    """All of them, by name."""
    return [_read(path) for path in sorted(_FOLDER.glob("*.textproto"))]


def _read(path: Path) -> StoredWorkflow:
    message = text_format.Parse(path.read_text("utf-8"), workflow_pb2.Workflow())
    body = message.SerializeToString(deterministic=True)
    return StoredWorkflow(message.workflow_id, "", 1, None, body, built_in=True)
