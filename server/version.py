"""The version of this program."""

from __future__ import annotations

from importlib import metadata

FROM_SOURCES = "unknown"
"""What stands for a version where the program runs from its sources, uninstalled."""


def own_version() -> str:
    """As it was installed ("0.1.0"), or `FROM_SOURCES`."""
    try:
        return metadata.version("device-operations")
    except metadata.PackageNotFoundError:
        return FROM_SOURCES
