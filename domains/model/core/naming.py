"""What clients may write where a model's id belongs."""

from __future__ import annotations

import re
from collections.abc import Callable

from domains import checks
from domains.errors import FieldViolation, Reason
from domains.model.errors import ModelNameInvalid, RemoteSourceForbidden

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HUB_PREFIX = re.compile(r"(hf|huggingface):", re.IGNORECASE)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w-]*(\.[\w-]+)*/[A-Za-z0-9][\w-]*(\.[\w-]+)*")


def check_model_id(model_id: str, *, field: str = "model_id") -> None:
    """Refuse what can be no id.

    Raises:
        RemoteSourceForbidden: It is a URL or the name of a repository on a hub.
        ModelNameInvalid: It is a path, or has another form that no id has.
    """
    for remote in (_URL.match, _HUB_PREFIX.match, _HUB_NAME.fullmatch):
        if remote(model_id):
            raise RemoteSourceForbidden
    violation = checks.name(field, model_id)
    if violation is not None:
        raise ModelNameInvalid(violation)


def check_new_id(
    path: str, model_id: str, id_of: Callable[[str], str]
) -> FieldViolation | None:
    """Check that a model that is called so on disk gets that very id; `id_of` says which."""
    if id_of(model_id) == model_id:
        return None
    rule = "Must be an id that a file of that name gets: shorter, or another end."
    return FieldViolation(path, Reason.NAME_INVALID, rule)
