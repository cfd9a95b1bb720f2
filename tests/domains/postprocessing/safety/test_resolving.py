"""Which policy a chain goes by, and what is told of classifiers that are not there."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from domains.clients import calling
from domains.errors import NotFound, Reason
from domains.postprocessing.safety.core.resolving import PolicyFinder, resolved
from domains.postprocessing.safety.errors import NoDefaultPolicy, PolicyNotFound
from domains.safety import NO_POLICY, SafetyRule
from tests.domains.postprocessing.safety.policies import (
    ADMIN,
    MARY,
    STRICT,
    Disk,
    store_of,
)


async def test_a_name_a_version_or_the_default() -> None:
    store = store_of(Disk())
    assert resolved(store, "", 0, MARY) is NO_POLICY
    with pytest.raises(NoDefaultPolicy):
        resolved(store, "", 0, MARY, needed="steps[0].safety.policy_id")
    with pytest.raises(PolicyNotFound):
        resolved(store, "", 1, MARY)
    await store.create(STRICT, ADMIN, is_default=True)
    await store.update(replace(STRICT, rules=()), ADMIN, 1, is_default=True)
    assert resolved(store, "", 0, MARY).version == 2
    assert resolved(store, "", 1, MARY).rules == STRICT.rules
    assert resolved(store, "strict", 1, MARY).rules == STRICT.rules
    with pytest.raises(PolicyNotFound):
        resolved(store, "", 3, MARY)


async def test_what_is_not_installed_is_refused_where_it_is_needed() -> None:
    store = store_of(Disk())
    finder = PolicyFinder(store, dict)
    assert finder.default() is None
    words = replace(STRICT, rules=(SafetyRule("words"),))
    await store.create(words, ADMIN, is_default=True)
    assert finder.default() is not None
    with calling(ADMIN), pytest.raises(NotFound) as refused:
        finder.named("strict", "steps[0].safety.policy_id")
    assert refused.value.reason is Reason.POSTPROCESSOR_NOT_FOUND
    await store.update(STRICT, ADMIN, 1, is_default=True)
    with pytest.raises(NotFound) as refused:
        finder.default()
    assert refused.value.metadata == {"postprocessor_id": ""}
    named = replace(STRICT, classifiers=("opennsfw",))
    await store.update(named, ADMIN, 2, is_default=True)
    with pytest.raises(NotFound) as refused:
        finder.default()
    assert refused.value.metadata == {"postprocessor_id": "opennsfw"}
    assert "pip install device-operations[safety]" in refused.value.message
    entry, other = await finder.classifiers()
    assert not entry.ready
    assert not other.ready
    assert "pip install device-operations[safety]" in entry.explanation


async def test_a_rule_that_nothing_here_scores_is_refused_whatever_else_is_installed() -> None:
    store = store_of(Disk())
    finder = PolicyFinder(store, lambda: {"nsfwjs": "1"})
    await store.create(STRICT, ADMIN, is_default=True)
    with pytest.raises(NotFound) as refused:
        finder.default()
    assert refused.value.metadata == {"postprocessor_id": "opennsfw"}
    drawn = replace(STRICT, rules=(SafetyRule("hentai"), SafetyRule("words")))
    await store.update(drawn, ADMIN, 1, is_default=True)
    assert finder.default() is not None
