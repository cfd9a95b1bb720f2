"""`python -m server`: the same as `deviceops serve`, with the same options."""

from __future__ import annotations

import sys

from server.early_end import end_at_signals

if __name__ == "__main__":
    end_at_signals()

    from server.cli.app import app

    app(args=["serve", *sys.argv[1:]], prog_name="deviceops")
