"""Which policy holds for a request."""

from __future__ import annotations

from domains.clients import Caller
from domains.postprocessing.safety.core.store import PolicyStore
from domains.postprocessing.safety.errors import NoDefaultPolicy, PolicyNotFound
from domains.safety import NO_POLICY, SafetyPolicy


def resolved(
    store: PolicyStore, policy_id: str, version: int, viewer: Caller, *, needed: str = ""
) -> SafetyPolicy:
    """The policy that a request names; without a name the server's default.

    Args:
        store: The policies.
        policy_id: Its name, or nothing.
        version: Which version; 0 is the newest.
        viewer: Who asks. The default holds for everybody, whoever may look at it.
        needed: The field that must name one where there is no default; without it `NO_POLICY`
            is what holds then.

    Raises:
        PolicyNotFound: There is none of that name or version that the viewer may use.
        NoDefaultPolicy: None is named, one is needed, and there is no default.
    """
    if policy_id:
        return store.get(policy_id, viewer, version).policy
    default = store.default
    if default is not None:
        return store.version_of(default, version)
    if version:
        raise PolicyNotFound("", version)
    if needed:
        raise NoDefaultPolicy(needed)
    return NO_POLICY
