"""Errors of workflows."""

from __future__ import annotations

from domains.clients import Role
from domains.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    Reason,
    ResourceExhausted,
)


class WorkflowNotFound(NotFound):
    """No such workflow."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(
            f"There is no workflow {workflow_id!r}; ListWorkflows shows those there are.",
            reason=Reason.WORKFLOW_NOT_FOUND,
            metadata={"workflow_id": workflow_id},
        )


class WorkflowNameTaken(AlreadyExists):
    """A workflow of that name exists."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(
            f"There is a workflow {workflow_id!r}; choose another name, or update that one.",
            reason=Reason.NAME_TAKEN,
            metadata={"workflow_id": workflow_id},
        )


class WorkflowReadyMade(FailedPrecondition):
    """It comes with the server and stays as it is."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(
            f"{workflow_id} comes with the server and stays as it is; store a copy under"
            " another name.",
            reason=Reason.STATE_CONFLICT,
            metadata={"workflow_id": workflow_id, "state": "built-in"},
        )


class WorkflowChanged(FailedPrecondition):
    """Somebody changed it meanwhile."""

    def __init__(self, workflow_id: str, version: int) -> None:
        super().__init__(
            f"{workflow_id} has version {version} by now; look at it and change that one.",
            reason=Reason.STATE_CONFLICT,
            metadata={
                "workflow_id": workflow_id,
                "state": "changed",
                "version": str(version),
            },
        )


class TooManyWorkflows(ResourceExhausted):
    """A client stores as many as it may."""

    def __init__(self, most: int, most_bytes: int) -> None:
        super().__init__(
            f"A client may store {most} workflows of {most_bytes} bytes together; delete some.",
            reason=Reason.CLIENT_QUOTA_EXCEEDED,
            metadata={"workflows": str(most), "max_bytes": str(most_bytes)},
        )


class StepNeedsRole(PermissionDenied):
    """A step does what its client may not do."""

    def __init__(self, step_id: str, step: str, role: Role) -> None:
        super().__init__(
            f"Step {step_id} needs role {role.name}, as its method does; a workflow within"
            " another one has RUN at most.",
            reason=Reason.ROLE_REQUIRED,
            metadata={"required_role": role.name, "step_id": step_id, "step": step},
        )
