"""Twenty things an orchestrator does in a day, as short client code over the real messages."""
