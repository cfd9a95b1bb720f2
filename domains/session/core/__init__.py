"""Sessions, their logs and their queues: pure, on one event loop."""
