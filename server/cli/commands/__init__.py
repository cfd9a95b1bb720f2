"""One file per command: its options, and the few calls that make it up."""
