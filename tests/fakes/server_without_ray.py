"""The server as `python -m server` starts it, where Ray cannot be imported."""

from __future__ import annotations

import sys

from server.early_end import end_at_signals

if __name__ == "__main__":
    end_at_signals()
    sys.modules["ray"] = None  # type: ignore[assignment]  # importing it fails

    from server.cli.app import app

    app(args=["serve", *sys.argv[1:]], prog_name="deviceops")
