"""The command line: a client of the public contract, and the commands that run the server.

Importing this package costs nothing; a command imports what it needs when it runs, so
that `deviceops --help` answers at once. No command imports torch.
"""

from __future__ import annotations

import io
import sys

from server import standard_streams
from server.early_end import end_at_signals


def main() -> None:
    """Run the command line with the process's arguments; ends the process."""
    standard_streams.settle()
    if sys.argv[1:2] == ["serve"]:
        end_at_signals()

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A pipe on Windows has the machine's code page, which lacks most letters of paths.
        sys.stdout.reconfigure(errors="backslashreplace")

    from server.cli.app import app

    app(prog_name="deviceops")
