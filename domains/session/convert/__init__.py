"""Sessions between proto and domain values."""

from domains.session.convert.events import Reports, SessionConverter
from domains.session.convert.starting import Starters
from domains.session.convert.streams import SessionStreams, checked_delivery
from domains.session.convert.values import (
    FORMATS,
    KINDS,
    PHASES,
    PRIORITIES,
    SAFETY_ACTIONS,
    SAFETY_SUBJECTS,
    SOURCE_METADATA,
    STATES,
    decision_to_proto,
    degradation_to_proto,
    delivery_from_proto,
    failure_to_proto,
    image_to_proto,
    options_from_proto,
    options_to_proto,
    snapshot_to_proto,
    verdict_to_proto,
    violation_to_proto,
)

__all__ = [
    "FORMATS",
    "KINDS",
    "PHASES",
    "PRIORITIES",
    "SAFETY_ACTIONS",
    "SAFETY_SUBJECTS",
    "SOURCE_METADATA",
    "STATES",
    "Reports",
    "SessionConverter",
    "SessionStreams",
    "Starters",
    "checked_delivery",
    "decision_to_proto",
    "degradation_to_proto",
    "delivery_from_proto",
    "failure_to_proto",
    "image_to_proto",
    "options_from_proto",
    "options_to_proto",
    "snapshot_to_proto",
    "verdict_to_proto",
    "violation_to_proto",
]
