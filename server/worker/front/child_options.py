"""What every worker of a pool is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ChildOptions:
    """`log_level` is of its own log; `code_dir` where compiled code lies, None: nothing is
    compiled."""

    log_level: str = "info"
    code_dir: Path | None = None
