"""Lists of artifacts: what can be asked for, and in which order it comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from domains import checks
from domains.artifact.core.changes import broken_labels
from domains.artifact.core.entries import Entry
from domains.artifact.types import Artifact, ArtifactFilter
from domains.clients import Caller
from domains.errors import FieldViolation, InvalidArgument
from domains.limits import LIMITS
from domains.paging import Page, paginate_ordered

_BEGINNING = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


def page_of(
    entries: Mapping[str, Entry],
    caller: Caller,
    wanted: ArtifactFilter,
    *,
    page_size: int,
    page_token: str,
) -> Page[Artifact]:
    """What the caller may see, newest first; one of several owners is an artifact of each.

    Raises:
        InvalidArgument: PAGE_TOKEN_INVALID, FIELD_OUT_OF_RANGE, TEXT_TOO_LONG, TEXT_INVALID,
            TOO_MANY_ELEMENTS or NAME_INVALID.
    """
    InvalidArgument.check(*_broken(wanted))
    chosen: Iterable[Entry] = entries.values()
    if wanted.artifact_ids:
        ids = dict.fromkeys(wanted.artifact_ids)
        chosen = [entries[name] for name in ids if name in entries]
    return paginate_ordered(
        (artifact for entry in chosen for artifact in entry.artifacts(caller, wanted)),
        _newest_first,
        page_size=page_size,
        page_token=page_token,
        scope=repr(("artifacts", caller.name, wanted)),
    )


def _newest_first(artifact: Artifact) -> tuple[int, str, str]:
    moment = (artifact.create_time - _BEGINNING) // _MICROSECOND
    return -moment, artifact.artifact_id, artifact.owner


def _broken(wanted: ArtifactFilter) -> list[FieldViolation | None]:
    prefix = LIMITS["ListArtifactsRequest.media_type_prefix"]
    most = LIMITS["ListArtifactsRequest.artifact_ids"]
    too_many = checks.elements("artifact_ids", len(wanted.artifact_ids), most)
    return [
        checks.name("session_id", wanted.session_id) if wanted.session_id else None,
        checks.line("media_type_prefix", wanted.media_type_prefix, prefix),
        checks.name("owner", wanted.owner) if wanted.owner else None,
        *broken_labels("labels", wanted.labels, LIMITS["ListArtifactsRequest.labels"]),
        too_many,
        *(
            checks.sha256(f"artifact_ids[{k}]", name)
            for k, name in enumerate(() if too_many else wanted.artifact_ids)
        ),
    ]
