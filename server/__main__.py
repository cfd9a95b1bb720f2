"""`python -m server`: the same as `deviceops serve`, with the same options."""

from __future__ import annotations

import sys

from server.cli.app import app

if __name__ == "__main__":
    app(args=["serve", *sys.argv[1:]], prog_name="deviceops")
