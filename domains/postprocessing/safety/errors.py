"""Errors of safety policies and checks."""

from __future__ import annotations

from domains.clients import Role
from domains.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Reason,
    ResourceExhausted,
)


class InvalidSafety(InvalidArgument):
    """A policy or a check that breaks rules."""


class PolicyNotFound(NotFound):
    """No such policy, or not in that version."""

    def __init__(self, policy_id: str, version: int = 0) -> None:
        which = f" in version {version}" if version else ""
        super().__init__(
            f"There is no safety policy {policy_id!r}{which}; ListPolicies shows those there"
            " are.",
            reason=Reason.POLICY_NOT_FOUND,
            metadata={"policy_id": policy_id, "version": str(version)},
        )


class NoDefaultPolicy(NotFound):
    """Nothing says which policy holds."""

    def __init__(self, field: str) -> None:
        super().__init__(
            f"{field} is empty and this server has no default policy; name one, or have an"
            " operator make one with is_default.",
            reason=Reason.POLICY_NOT_FOUND,
            metadata={"policy_id": "", "field": field},
        )


class PolicyNameTaken(AlreadyExists):
    """A policy of that name exists."""

    def __init__(self, policy_id: str) -> None:
        super().__init__(
            f"There is a policy {policy_id!r}; choose another name, or update that one.",
            reason=Reason.NAME_TAKEN,
            metadata={"policy_id": policy_id},
        )


class PolicyChanged(FailedPrecondition):
    """Somebody changed it meanwhile."""

    def __init__(self, policy_id: str, version: int) -> None:
        super().__init__(
            f"{policy_id} has version {version} by now; look at it and change that one.",
            reason=Reason.STATE_CONFLICT,
            metadata={"policy_id": policy_id, "state": "changed", "version": str(version)},
        )


class PolicyInUse(FailedPrecondition):
    """Work that has not ended goes by it."""

    def __init__(self, policy_id: str, session_id: str) -> None:
        super().__init__(
            f"{policy_id} is in use by session {session_id}; wait for its end or cancel it.",
            reason=Reason.STATE_CONFLICT,
            metadata={"policy_id": policy_id, "state": "in-use", "session_id": session_id},
        )


class TooManyPolicies(ResourceExhausted):
    """A client keeps as many versions as it may."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"A client may keep {most} versions of policies together; delete a policy.",
            reason=Reason.CLIENT_QUOTA_EXCEEDED,
            metadata={"versions": str(most)},
        )


class OperatorsPolicy(PermissionDenied):
    """It holds for other clients too, so only those may change it who see everything."""

    def __init__(self, policy_id: str) -> None:
        super().__init__(
            f"{policy_id} is the server's default or an operator's policy, or is to become the"
            " default; that needs role ADMIN.",
            reason=Reason.ROLE_REQUIRED,
            metadata={"policy_id": policy_id, "required_role": Role.ADMIN.name},
        )
