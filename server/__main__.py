"""`python -m server`: the same as `deviceops serve`, with the same options."""

from __future__ import annotations

import sys

from server import standard_streams
from server.early_end import end_at_signals

if __name__ == "__main__":
    standard_streams.settle()
    end_at_signals()

    from server.cli.app import app

    app(args=["serve", *sys.argv[1:]], prog_name="deviceops")
