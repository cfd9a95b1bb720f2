"""The safety policies that there are, in all their versions, and which is the default."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from domains.clients import Caller, Role
from domains.codec import Malformed, Name, Text, Value, decode, encode
from domains.paging import Page, paginate_ordered
from domains.postprocessing.safety.errors import (
    OperatorsPolicy,
    PolicyChanged,
    PolicyInUse,
    PolicyNameTaken,
    PolicyNotFound,
    TooManyPolicies,
)
from domains.records import Records
from domains.safety import SafetyPolicy

MOST = 1_000
"""Versions of one client's policies."""
_DEFAULT = "default"
Key = tuple[str, str]
"""Owner and name."""


class DefaultPolicy(Value, frozen=True):
    """Which policy is the server's default."""

    owner: Text
    policy_id: Name


@dataclass(frozen=True)
class KeptPolicy:
    """One version of a policy, and whether the policy is the server's default."""

    policy: SafetyPolicy
    is_default: bool


class PolicyStore:
    """Policies by name; each client has names of its own.

    Those that a client of role ADMIN made are public: every client may look at them and have
    them used, and only ADMIN may change them. One policy at most is the server's default, and
    ADMIN alone chooses it: it holds for everybody. A version never changes.

    Args:
        versions: What outlives the server of every version.
        default: What does of the default.
        in_use: The id of a session that has not ended and goes by a policy, by its key; empty
            where there is none.
        now: The time.
    """

    def __init__(
        self,
        versions: Records,
        default: Records,
        in_use: Callable[[str], str],
        now: Callable[[], datetime],
    ) -> None:
        self._records, self._of_default = versions, default
        self._in_use, self._now = in_use, now
        self._kept: dict[Key, tuple[SafetyPolicy, ...]] = {}
        self._default: Key | None = None

    def recall(self) -> None:
        """Remember those of an earlier server; to be called once, before any other."""
        for body in self._records.found().values():
            try:
                kept = decode(SafetyPolicy, body)
            except Malformed:
                continue  # it stays on disk for a version that reads it
            key = kept.owner, kept.policy_id
            versions = (*self._kept.get(key, ()), kept)
            self._kept[key] = tuple(sorted(versions, key=lambda each: each.version))
        for body in self._of_default.found().values():
            try:
                named = decode(DefaultPolicy, body)
            except Malformed:
                continue
            if (named.owner, named.policy_id) in self._kept:
                self._default = named.owner, named.policy_id

    def get(self, policy_id: str, viewer: Caller, version: int = 0) -> KeptPolicy:
        """A policy of that name that the viewer may see: its own, a public one, or for who sees
        everything another client's. `version` 0 is the newest.

        Raises:
            PolicyNotFound: There is none, or not in that version.
        """
        key = self._key_of(policy_id, viewer)
        if key is None:
            raise PolicyNotFound(policy_id, version)
        newest = self._kept[key][-1]
        return KeptPolicy(self.version_of(newest, version), key == self._default)

    def version_of(self, policy: SafetyPolicy, version: int) -> SafetyPolicy:
        """Another version of a policy that is kept; 0 is the newest.

        Raises:
            PolicyNotFound: There is none.
        """
        versions = self._kept[policy.owner, policy.policy_id]
        if version == 0:
            return versions[-1]
        for each in versions:
            if each.version == version:
                return each
        raise PolicyNotFound(policy.policy_id, version)

    @property
    def default(self) -> SafetyPolicy | None:
        """The newest version of the policy that holds where nothing else is said."""
        return None if self._default is None else self._kept[self._default][-1]

    def listed(
        self, viewer: Caller, owner: str, *, page_size: int, page_token: str
    ) -> Page[KeptPolicy]:
        """A page of the newest versions that the viewer may see, by name.

        Raises:
            InvalidArgument: As `paginate_ordered`.
        """
        seen = [
            KeptPolicy(versions[-1], key == self._default)
            for key, versions in self._kept.items()
            if self._sees(viewer, versions[-1]) and owner in ("", key[0])
        ]
        return paginate_ordered(
            seen,
            lambda each: (each.policy.policy_id, each.policy.owner),
            page_size=page_size,
            page_token=page_token,
            scope=f"policies {viewer.name} {owner}",
        )

    async def create(
        self, policy: SafetyPolicy, viewer: Caller, *, is_default: bool
    ) -> KeptPolicy:
        """Keep a policy as version 1; it is on disk when this returns.

        Raises:
            PolicyNameTaken: There is one of that name that the viewer sees as its own or that
                is public.
            OperatorsPolicy: It is to be the default, and the viewer is no ADMIN.
            TooManyPolicies: The client has as many as it may.
            DomainError: The disk does not take it.
        """
        key = viewer.name, policy.policy_id
        taken = self._key_of(policy.policy_id, Caller(viewer.name, Role.RUN))
        if taken is not None:
            raise PolicyNameTaken(policy.policy_id)
        if is_default and viewer.role is not Role.ADMIN:
            raise OperatorsPolicy(policy.policy_id)
        public = viewer.role is Role.ADMIN
        made = replace(
            policy, owner=viewer.name, version=1, create_time=self._now(), public=public
        )
        await self._keep(key, made, (made,))
        await self._choose(key, is_default=is_default)
        return KeptPolicy(made, is_default)

    async def update(
        self, policy: SafetyPolicy, viewer: Caller, expected_version: int, *, is_default: bool
    ) -> KeptPolicy:
        """Keep the policy's next version; it is on disk when this returns.

        Raises:
            PolicyNotFound: There is none.
            OperatorsPolicy: It is public or the default, or is to be that, and the viewer is no
                ADMIN.
            PolicyChanged: It has another version than is expected.
            TooManyPolicies: The client has as many as it may.
            DomainError: The disk does not take it.
        """
        key, versions = self._changeable(policy.policy_id, viewer, expected_version)
        if is_default and viewer.role is not Role.ADMIN:
            raise OperatorsPolicy(policy.policy_id)
        newest = versions[-1]
        made = replace(
            policy,
            owner=newest.owner,
            version=newest.version + 1,
            create_time=self._now(),
            public=newest.public,
        )
        await self._keep(key, made, (*versions, made))
        await self._choose(key, is_default=is_default)
        return KeptPolicy(made, is_default)

    async def delete(self, policy_id: str, viewer: Caller, expected_version: int) -> None:
        """Forget a policy in all versions.

        Raises:
            PolicyNotFound: There is none.
            OperatorsPolicy: It is public or the default, and the viewer is no ADMIN.
            PolicyChanged: It has another version than is expected, unless that is 0.
            PolicyInUse: Work that has not ended goes by it.
        """
        key, versions = self._changeable(policy_id, viewer, expected_version)
        using = self._in_use(versions[-1].key)
        if using:
            raise PolicyInUse(policy_id, using)
        del self._kept[key]
        await self._choose(key, is_default=False)
        # The newest goes last: a server that dies meanwhile leaves the policy as it was.
        for each in versions:
            await asyncio.wrap_future(self._records.remove(_name(each)))

    async def _keep(
        self, key: Key, made: SafetyPolicy, versions: tuple[SafetyPolicy, ...]
    ) -> None:
        count = sum(len(each) for (owner, _), each in self._kept.items() if owner == key[0])
        if count >= MOST:
            raise TooManyPolicies(MOST)
        before = self._kept.get(key)
        self._kept[key] = versions
        try:
            await self._records.accept(_name(made), encode(made))
        except BaseException:
            if before is None:
                del self._kept[key]
            else:
                self._kept[key] = before
            raise

    async def _choose(self, key: Key, *, is_default: bool) -> None:
        """Have a policy be the default in the place of any other, or be it no more."""
        if is_default and self._default != key:
            self._default = key
            body = encode(DefaultPolicy(*key))
            await asyncio.wrap_future(self._of_default.put(_DEFAULT, body))
        elif not is_default and self._default == key:
            self._default = None
            await asyncio.wrap_future(self._of_default.remove(_DEFAULT))

    def _changeable(
        self, policy_id: str, viewer: Caller, expected_version: int
    ) -> tuple[Key, tuple[SafetyPolicy, ...]]:
        found = self.get(policy_id, viewer)
        newest = found.policy
        if (newest.public or found.is_default) and viewer.role is not Role.ADMIN:
            raise OperatorsPolicy(policy_id)
        if expected_version not in (0, newest.version):
            raise PolicyChanged(policy_id, newest.version)
        key = newest.owner, policy_id
        return key, self._kept[key]

    def _key_of(self, policy_id: str, viewer: Caller) -> Key | None:
        """Whose policy of that name the viewer means: its own before all others."""
        if (viewer.name, policy_id) in self._kept:
            return viewer.name, policy_id
        seen = (
            key
            for key, versions in sorted(self._kept.items())
            if key[1] == policy_id and self._sees(viewer, versions[-1])
        )
        return next(seen, None)

    def _sees(self, viewer: Caller, policy: SafetyPolicy) -> bool:
        return policy.public or viewer.sees(policy.owner)


def _name(policy: SafetyPolicy) -> str:
    return f"{policy.key}/{policy.version}"
