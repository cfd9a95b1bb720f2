"""Workflows: graphs of steps, each of which is a session of its own."""
