"""What a server is, can and allows, for people."""

from __future__ import annotations

from collections.abc import Iterable

from deviceops.v1 import common_pb2, system_pb2
from server.cli.output import details, table
from server.cli.wording import duration, enum_word, moment, seconds_of, size
from server.version import own_version


def show(found: system_pb2.GetServerInfoResponse, *, limits: bool) -> None:
    """Versions, the caller, what is built, retentions, quotas; and every limit if wanted."""
    details(_facts(found))
    if limits:
        print()
        table(
            ("field", "unit", "least", "most", "multiple of", "default"), _limits(found.limits)
        )


def _facts(found: system_pb2.GetServerInfoResponse) -> Iterable[tuple[str, str]]:
    role = enum_word(system_pb2.ClientRole, found.client_role, "CLIENT_ROLE_")
    built = sum(feature.built for feature in found.features)
    return (
        ("server", found.server_version),
        ("this command line", own_version()),
        ("contract", found.contract_version),
        ("state", "draining: it takes no new work" if found.draining else "serving"),
        ("running since", moment(found.start_time)),
        ("you are", f"{found.client_name or 'nameless'}, with the role {role}"),
        ("built", f"{built} of {len(found.features)} parts of the contract"),
        *_missing(found.features),
        *_retentions(found.retentions),
        *_quotas(found.quotas),
        ("software", _versions(found)),
    )


def _missing(features: Iterable[system_pb2.BuiltFeature]) -> Iterable[tuple[str, str]]:
    """What is not built, a line for each service and message."""
    groups: dict[str, list[str]] = {}
    for feature in features:
        if not feature.built:
            whole, _, part = feature.name.partition(".")
            groups.setdefault(whole, []).append(part)
    return ((f"not built of {whole}", ", ".join(parts)) for whole, parts in groups.items())


def _retentions(kept: system_pb2.Retentions) -> Iterable[tuple[str, str]]:
    return (
        (
            "sessions",
            f"kept {duration(seconds_of(kept.sessions))} once final, at most"
            f" {kept.most_sessions}",
        ),
        ("artifacts", f"kept {duration(seconds_of(kept.artifacts))} after their last use"),
        ("uploads", f"kept {duration(seconds_of(kept.uploads))} unfinished"),
        ("after a restart", _after_restart(kept)),
    )


def _after_restart(kept: system_pb2.Retentions) -> str:
    sessions = "there" if kept.sessions_survive_restart else "gone"
    batches = "there" if kept.batches_survive_restart else "gone"
    return f"sessions are {sessions}, batches are {batches}"


def _quotas(quotas: system_pb2.Quotas) -> Iterable[tuple[str, str]]:
    leased = size(quotas.used_allocation_bytes)
    if quotas.allocation_bytes:
        leased += f" of {size(quotas.allocation_bytes)}"
    return (
        (
            "artifacts of all",
            f"{size(quotas.used_artifact_bytes)} of {size(quotas.artifact_bytes)}",
        ),
        ("your allocations", leased),
        (
            "queue of a device",
            f"{quotas.queue_length}, of one client {quotas.queue_length_per_client} while"
            " others wait",
        ),
        (
            "open calls",
            ", ".join(f"{n} {kind}" for kind, n in sorted(quotas.open_calls.items())),
        ),
    )


def _versions(found: system_pb2.GetServerInfoResponse) -> str:
    return ", ".join(f"{name} {v}" for name, v in sorted(found.software_versions.items()))


def _limits(limits: Iterable[common_pb2.FieldLimit]) -> Iterable[tuple[str, ...]]:
    for limit in limits:
        unit, most = limit.unit, _figure(limit.maximum, there=limit.HasField("maximum"))
        if limit.HasField("max_elements"):
            unit, most = "elements", str(limit.max_elements)
        elif limit.HasField("max_characters"):
            unit, most = "characters", str(limit.max_characters)
        elif limit.HasField("max_size_bytes"):
            unit, most = "bytes", str(limit.max_size_bytes)
        yield (
            limit.field + (" (required)" if limit.required else ""),
            unit,
            _figure(limit.minimum, there=limit.HasField("minimum")),
            most,
            _figure(limit.multiple_of, there=limit.HasField("multiple_of")),
            _figure(limit.default_value, there=limit.HasField("default_value")),
        )


def _figure(number: float, *, there: bool) -> str:
    return f"{number:.15g}" if there else ""
