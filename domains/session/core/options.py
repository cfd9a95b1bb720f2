"""The rules that session options must keep."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from domains import checks
from domains.errors import FieldViolation
from domains.limits import LIMITS
from domains.session.types import Delivery, WorkOptions


def check_options(options: WorkOptions, path: str) -> Iterator[FieldViolation]:
    """Every rule `options` breaks; `path` is where they stand in the request."""
    found: list[FieldViolation | None] = []
    if options.request_id:
        found.append(checks.request_id(f"{path}.request_id", options.request_id))
    times = (
        ("queue_timeout", options.queue_timeout_seconds),
        ("run_timeout", options.run_timeout_seconds),
        ("retention", options.retention_seconds),
    )
    for field, seconds in times:
        if seconds is not None:
            limit = LIMITS[f"WorkOptions.{field}"]
            found.append(checks.number(f"{path}.{field}", seconds, limit))
    found += checks.lines(f"{path}.tags", options.tags, LIMITS["WorkOptions.tags"])
    metadata = LIMITS["WorkOptions.metadata"]
    found.append(checks.elements(f"{path}.metadata", len(options.metadata), metadata))
    for key, value in islice(options.metadata.items(), metadata.max_elements):
        found.append(checks.name(f"{path}.metadata", key))
        found.append(checks.line(f"{path}.metadata", value, metadata))
    return (violation for violation in found if violation is not None)


def check_delivery(delivery: Delivery, path: str) -> Iterator[FieldViolation]:
    """Every rule `delivery` breaks; `path` is where it stands in the request."""
    previews = delivery.previews
    rules = (
        ("previews.every_steps", previews.every_steps, "PreviewSettings.every_steps"),
        (
            "previews.max_edge_pixels",
            previews.max_edge_pixels,
            "PreviewSettings.max_edge_pixels",
        ),
        ("step_interval", delivery.step_interval_seconds, "DeliveryOptions.step_interval"),
    )
    found = [
        checks.number(f"{path}.{field}", value, LIMITS[limit]) for field, value, limit in rules
    ]
    most = LIMITS["DeliveryOptions.event_kinds"]
    found.append(checks.elements(f"{path}.event_kinds", len(delivery.kinds), most))
    yield from (violation for violation in found if violation is not None)
