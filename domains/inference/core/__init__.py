"""Generations: checked, resolved, queued and run. Pure, on one event loop."""
