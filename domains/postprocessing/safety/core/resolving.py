"""Which policy holds for a request, and what scores for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from domains.clients import Caller, caller
from domains.postprocessing.safety.core.store import PolicyStore
from domains.postprocessing.safety.errors import NoDefaultPolicy, PolicyNotFound
from domains.postprocessing.types import Postprocessor, PostprocessorKind
from domains.safety import NO_POLICY, SafetyPolicy
from domains.safety.classifiers import KNOWN, check_installed


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


class PolicyFinder:
    """Finds what holds for steps of chains, see the port `Policies` of those, and for all.

    Args:
        store: The policies.
        installed: The classifiers that there are, by id.
    """

    def __init__(self, store: PolicyStore, installed: Callable[[], Mapping[str, str]]) -> None:
        self._store, self._installed = store, installed

    def named(self, policy_id: str, field: str) -> SafetyPolicy:
        """The policy that a call's client names in `field`, or the default one."""
        policy = resolved(self._store, policy_id, 0, caller(), needed=field)
        check_installed(policy, self._installed())
        return policy

    def default(self) -> SafetyPolicy | None:
        """The policy that holds for everything, with its classifiers installed.

        Raises:
            ClassifierMissing: Those are not.
        """
        policy = self._store.default
        if policy is not None and policy.judges_pictures:
            check_installed(policy, self._installed())
        return policy

    async def classifiers(self) -> tuple[Postprocessor, ...]:
        """Every classifier that is known, with its version where it is installed."""
        versions = self._installed()
        return tuple(
            Postprocessor(
                each.classifier_id,
                PostprocessorKind.SAFETY,
                f"{each.description} {versions.get(each.classifier_id, '')}".rstrip(),
                ready=each.classifier_id in versions,
                explanation=""
                if each.classifier_id in versions
                else f"It is not installed: {each.install}, and start the server again.",
            )
            for each in KNOWN.values()
        )
