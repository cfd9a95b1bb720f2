"""Sessions between proto and domain values."""

from domains.session.convert.events import Reports, SessionConverter
from domains.session.convert.streams import SessionStreams
from domains.session.convert.values import (
    FORMATS,
    KINDS,
    PHASES,
    STATES,
    failure_to_proto,
    options_from_proto,
    options_to_proto,
    snapshot_to_proto,
    violation_to_proto,
)

__all__ = [
    "FORMATS",
    "KINDS",
    "PHASES",
    "STATES",
    "Reports",
    "SessionConverter",
    "SessionStreams",
    "failure_to_proto",
    "options_from_proto",
    "options_to_proto",
    "snapshot_to_proto",
    "violation_to_proto",
]
