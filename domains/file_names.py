"""Names on disk that no model can have."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NOT_ON_WINDOWS = re.compile(
    r'[<>:"|?*\\]|[. ]\Z|\A(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\.|\Z)',
    re.IGNORECASE,
)


def unfit(name: str) -> str:
    """What keeps a name from being used everywhere, after it in a sentence; or nothing."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is a name that is no text"
    if _CONTROL.search(name):
        return "is a name with control characters"
    if _NOT_ON_WINDOWS.search(name):
        return "is a name that Windows cannot have"
    return ""
