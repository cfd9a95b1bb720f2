"""Rules of chains, in plain Python."""
