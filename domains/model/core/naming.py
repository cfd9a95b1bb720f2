"""What clients may write where a model's id belongs."""

from __future__ import annotations

import re

from domains import checks
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
