"""The server as `python -m server` starts it, on a machine with two made-up cards."""

from __future__ import annotations

import sys

from server.early_end import end_at_signals

if __name__ == "__main__":
    end_at_signals()

    from domains.device import build
    from server.cli.app import app
    from tests.fakes.cards import CardsProbe, computing_card

    cards = CardsProbe(computing_card(0), computing_card(1))
    build.ProbeProcesses = lambda _: cards  # type: ignore[assignment, misc]
    app(args=["serve", *sys.argv[1:]], prog_name="deviceops")
