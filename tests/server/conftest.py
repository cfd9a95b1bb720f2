"""What tests of the front process share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from server.config import Settings


@pytest.fixture
def log_lines() -> Iterator[list[dict[str, Any]]]:
    """Every structured line logged during the test, as it was before rendering."""
    lines: list[dict[str, Any]] = []

    def keep(_: Any, level: str, event: Any) -> Any:
        lines.append({"level": level, **event})
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, keep],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=False,
    )
    yield lines
    structlog.configure(**before)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A server of its own: free port, folders of its own, no metrics port."""
    return Settings(
        port=0,
        metrics_port=0,
        data_dir=tmp_path / "data",
        runtime_dir=tmp_path / "runtime",
        drain_seconds=5,
        cancel_grace_seconds=2,
    )
